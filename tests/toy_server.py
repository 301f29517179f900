"""Servers on real sockets, and clients."""

from __future__ import annotations

import gc
import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import soundfile
import torch
from toy_stream import RATE, sound
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from s2s.api import load_stream
from s2s.decoding.config import DecodingConfig, load_decoding_config
from s2s.server.metrics import Metrics
from s2s.server.models import Models, serving
from s2s.server.run import Server, listening, server_of
from s2s.server.settings import ServerSettings
from s2s.streaming.session import StreamSession
from s2s.streaming.settings import StreamSettings

GREEDY = load_decoding_config(["decoding=ctc_greedy"])  # the toy's decoder says nothing


@dataclass
class Running:
    """A server that runs in a thread of this process."""

    server: Server
    models: Models
    port: int
    thread: threading.Thread

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str, **options: Any) -> httpx.Response:
        return httpx.get(self.url + path, timeout=60, **options)

    def post(self, data: bytes | None, path: str = "transcriptions", **options: Any) -> httpx.Response:
        """A file and the fields of a form."""
        headers = options.pop("headers", None)
        files = {} if data is None else {"file": ("../../etc/passwd", data)}
        fields = {name: value for name, value in options.items() if value is not None}
        return httpx.post(f"{self.url}/v1/audio/{path}", files=files, data=fields, headers=headers, timeout=60)

    def connect(
        self, query: str = f"sample_rate={RATE}&decoding=ctc_greedy&chunk=0.16", **options: Any
    ) -> ClientConnection:
        options = {"open_timeout": 60, "close_timeout": 5, "ping_interval": None, **options}
        return connect(f"ws://127.0.0.1:{self.port}/v1/audio/stream?{query}", **options)

    def metric(self, name: str) -> float:
        """The sum of a figure over its labels."""
        lines = self.get("/metrics").text.splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.split("{")[0].split(" ")[0] == name)

    def stop(self) -> None:
        self.server.stop()
        self.thread.join(60)
        assert not self.thread.is_alive()

    def wait_until_idle(self) -> None:
        """Until no session and no file is in hand."""
        wait_for(lambda: self.server.state.is_idle and not any(self.server.state.folder.iterdir()))


@contextmanager
def running(
    sources: dict[str, str], settings: ServerSettings | None = None, decoding: DecodingConfig | None = GREEDY
) -> Iterator[Running]:
    """A server of models, whose files are searched as `decoding` says."""
    settings, metrics = settings or ServerSettings(port=0), Metrics()
    with ExitStack() as stack:
        sock = stack.enter_context(listening(settings.host, 0))
        models = stack.enter_context(serving(sources, settings, metrics, decoding))
        server = stack.enter_context(server_of(models, settings, metrics))
        thread = threading.Thread(target=server.run, args=([sock],), daemon=True)
        thread.start()
        wait_for(lambda: server.started)
        served = Running(server, models, sock.getsockname()[1], thread)
        yield served
        if thread.is_alive():
            served.stop()


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Until it holds; it has to, at some time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.01)


def pcm(seconds: float, seed: int = 0) -> bytes:
    """Sound that the toy says something of, as 16-bit samples."""
    return (sound(seconds, seed).numpy().clip(-1, 1) * 32767).astype("<i2").tobytes()


def wav(data: bytes, rate: int = RATE, kind: str = "WAV") -> bytes:
    """The same as a file."""
    packed = io.BytesIO()
    soundfile.write(packed, np.frombuffer(data, "<i2"), rate, format=kind, subtype="PCM_16")
    return packed.getvalue()


def said(bundle: Path, data: bytes, decoding: str = "ctc_greedy", *overrides: str) -> list[tuple[str, str]]:
    """What a session in this process says of samples: kinds and texts of its events."""
    session = load_stream(bundle, StreamSettings.of(decoding, None, overrides), chunk=0.16).session()
    samples = torch.from_numpy(np.frombuffer(data, "<i2").astype(np.float32) / 32768)
    events = [event for piece in samples.split(RATE // 10) for event in session.feed(piece)] + session.finish()
    return [(event.kind, event.text) for event in events]


def events_of(client: ClientConnection) -> list[dict[str, Any]]:
    """All that a server says until it closes, whatever the code."""
    events = []
    with suppress(ConnectionClosed):
        while True:
            events.append(json.loads(client.recv(60)))
    return events


def speak(client: ClientConnection, data: bytes, size: int = 1600) -> list[dict[str, Any]]:
    """Send all samples, say that that was all, and take all events."""
    for start in range(0, len(data), size):
        client.send(data[start : start + size])
    client.send(json.dumps({"type": "end"}))
    return events_of(client)


def texts(events: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Kinds and texts, as `said` gives them."""
    return [(event["type"], event["text"]) for event in events if event["type"] in ("partial", "final")]


def held() -> tuple[int, int]:
    """How many sessions there are in this process, and the bytes of all tensors."""
    gc.collect()
    things = gc.get_objects()
    tensors = [each for each in things if type(each) is torch.Tensor]
    storages = {each.untyped_storage().data_ptr(): each.untyped_storage().nbytes() for each in tensors}
    return sum(type(each) is StreamSession for each in things), sum(storages.values())
