"""What goes wrong with one client is nobody else's matter, and nothing of it stays."""

from __future__ import annotations

import json
import os
import random
import socket
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy_server import Running, events_of, held, pcm, running, said, speak, texts, wait_for, wav
from toy_stream import RATE
from websockets.exceptions import ConnectionClosed, InvalidStatus

from s2s.server.settings import ServerSettings

DATA = pcm(3.0, 7)
UPGRADE = (
    b"GET /v1/audio/stream?sample_rate=8000&decoding=ctc_greedy&chunk=0.16 HTTP/1.1\r\nHost: a\r\n"
    b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Version: 13\r\n\r\n"
)


@contextmanager
def unharmed(served: Running, bundle: Path, count: int = 3) -> Iterator[None]:
    """Sessions that go on meanwhile say what they would have said; afterwards nothing is held that was not before."""
    served.wait_until_idle()
    with served.connect() as client:  # whatever the first session makes
        speak(client, DATA)
    served.wait_until_idle()
    before, files, threads = held(), num_files(), num_threads()
    begun, may_end = [threading.Event() for _ in range(count)], threading.Event()

    def witness(i: int) -> list[tuple[str, str]]:
        with served.connect() as client:
            client.send(DATA[: len(DATA) // 2])
            begun[i].set()
            assert may_end.wait(100)
            return texts(speak(client, DATA[len(DATA) // 2 :]))

    with ThreadPoolExecutor(count) as pool:
        found = [pool.submit(witness, i) for i in range(count)]
        for each in begun:
            assert each.wait(60)
        try:
            yield
        finally:
            may_end.set()
        assert [each.result() for each in found] == [said(bundle, DATA)] * count
    served.wait_until_idle()
    wait_for(lambda: held() <= before)
    wait_for(lambda: num_files() <= files)
    wait_for(lambda: num_threads() <= threads)
    assert served.metric("s2s_sessions") == 0


def num_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def num_threads() -> int:
    """But for those of pools, which stay to be used again."""
    return sum(not each.name.startswith(("asyncio_", "file_")) for each in threading.enumerate())


def raw_client(served: Running) -> socket.socket:
    """A client that does what it is told only: no library answers pings or reads for it."""
    client = socket.create_connection(("127.0.0.1", served.port))
    client.sendall(UPGRADE)
    return client


def frame(data: bytes) -> bytes:
    """A binary message of a client (RFC 6455, section 5.2), masked by zeros."""
    return b"\x82\xfe" + struct.pack(">H", len(data)) + b"\0\0\0\0" + data


def test_clients_that_are_killed(served: Running, bundle: Path) -> None:
    """Their connections are reset: after the handshake, within a message, while they are told something."""
    with unharmed(served, bundle):
        for i in range(8):
            with raw_client(served) as client:
                client.sendall((frame(DATA[:4800]) * 4)[: [0, 3, 2000, None][i % 4]])
                if i > 3:
                    assert client.recv(200)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        wait_for(lambda: served.server.state.num_sessions == 3)


def test_frames_of_noise(served: Running, bundle: Path) -> None:
    """Of WebSockets, of HTTP, of neither; whole, cut off, fragmented."""
    generator = random.Random(0)
    with unharmed(served, bundle):
        for i in range(30):
            with socket.create_connection(("127.0.0.1", served.port)) as client:
                client.settimeout(60)
                if i % 3:
                    client.sendall(UPGRADE)
                    assert b" 101 " in client.recv(4096)
                client.sendall(generator.randbytes(generator.choice((1, 7, 100, 5000))))
                if i % 2:
                    client.shutdown(socket.SHUT_WR)
                    while client.recv(4096):  # the server closes
                        pass


def test_samples_of_a_wrong_format(served: Running, bundle: Path) -> None:
    with unharmed(served, bundle):
        for data in (wav(DATA), b"\0" * 1601, wav(DATA, kind="FLAC"), json.dumps([0.1, 0.2]), "end"):
            with served.connect() as client:
                client.send(data)
                assert events_of(client)[-1]["type"] == "error"
        floats = torch.rand(RATE).numpy().tobytes()  # nobody can tell: samples of noise
        with served.connect() as client:
            assert speak(client, floats)[-1]["type"] == "end"


def test_sockets_that_are_half_open(bundle: Path) -> None:
    """A client that answers no ping is gone, though its connection is open."""
    with running({"toy": str(bundle)}, ServerSettings(ping_seconds=0.3)) as served, unharmed(served, bundle):
        clients = [raw_client(served) for _ in range(4)]
        wait_for(lambda: served.server.state.num_sessions == 7)
        wait_for(lambda: served.server.state.num_sessions == 3)
        for client in clients:
            client.close()


def test_a_client_that_reads_nothing(bundle: Path) -> None:
    """What it is told does not pile up without end: it is gone when it answers no ping."""
    with running({"toy": str(bundle)}, ServerSettings(ping_seconds=0.5)) as served, unharmed(served, bundle, 1):
        client = raw_client(served)
        for _ in range(5):
            client.sendall(frame(pcm(1.0)))
        wait_for(lambda: served.server.state.num_sessions == 1)
        client.close()


def test_two_hundred_connections_at_once(bundle: Path) -> None:
    """As many as are allowed have their text, the others are told to come again."""
    with running({"toy": str(bundle)}, ServerSettings(max_sessions=50)) as served:
        with served.connect() as client:
            speak(client, DATA)
        served.wait_until_idle()
        before = held()
        gate = threading.Barrier(200)
        all_decided = threading.Barrier(200)
        data = DATA[: len(DATA) // 3]

        def one(i: int) -> Any:
            gate.wait(60)
            try:
                client = served.connect()
            except InvalidStatus as refused:
                all_decided.wait(100)
                return refused.response.status_code
            all_decided.wait(100)
            with client:
                return texts(speak(client, data))

        with ThreadPoolExecutor(200) as pool:
            found = list(pool.map(one, range(200)))
        assert found.count(503) == 150
        assert found.count(said(bundle, data)) == 50
        served.wait_until_idle()
        wait_for(lambda: held() <= before)
        with served.connect() as client:
            assert texts(speak(client, DATA)) == said(bundle, DATA)


@pytest.mark.parametrize("decoding", ["ctc_greedy", "ctc_prefix", "rescoring", "joint"])
def test_a_model_that_fails_on_one_session(
    served: Running, bundle: Path, decoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a batch with others, whose text is what it would have been."""
    bundle_of = served.models.first.transcriber.bundle
    samples = torch.from_numpy(np.frombuffer(DATA, "<i2") / np.float32(32768))
    loudest = float(bundle_of.features(samples[None], torch.tensor([len(samples)]))[0].max())
    noise = np.random.default_rng(0).choice([-32768, 32767], 1600).astype("<i2").tobytes()  # louder than all of DATA
    step, sizes = bundle_of.model.step, []

    def fails(source, lengths, past):  # type: ignore[no-untyped-def]
        found = step(source, lengths, past)
        if float(source.max()) > loudest + 0.5:
            sizes.append(len(source))
            raise RuntimeError("secret of the machine")
        return found

    query = f"sample_rate={RATE}&chunk=0.16&decoding={decoding}"
    expected = said(bundle, DATA, decoding)

    def good() -> list[tuple[str, str]]:
        with served.connect(query) as client:
            return texts(speak(client, DATA))

    def bad() -> list[dict[str, Any]]:
        with served.connect(query) as client:
            client.send(DATA[:16000])
            client.send(noise)
            return speak(client, DATA)

    monkeypatch.setattr(bundle_of.model, "step", fails)
    with ThreadPoolExecutor(4) as pool:
        goods = [pool.submit(good) for _ in range(3)]
        events = pool.submit(bad).result()
        found = [each.result() for each in goods]
    assert found == [expected] * 3
    assert sizes[-1] == 1
    assert events[-1]["type"] == "error"
    assert events[-1]["error"]["code"] == "model_error"
    assert "secret" not in json.dumps(events)
    served.wait_until_idle()


def test_a_server_that_is_stopped_tells_what_it_heard(bundle: Path) -> None:
    with running({"toy": str(bundle)}) as served:
        half = DATA[: len(DATA) // 2]
        clients = [served.connect() for _ in range(4)]
        for client in clients:
            client.send(half)
        file = ThreadPoolExecutor(1).submit(served.post, wav(pcm(20.0)))
        wait_for(lambda: served.server.state.num_requests == 1)
        served.server.stop()
        for client in clients:
            events = events_of(client)
            assert texts(events)[-1] == said(bundle, half)[-1]
            assert events[-1]["error"]["code"] == "stopping"
            assert client.close_code == 1012
        assert file.result().status_code == 200
        served.thread.join(60)
        assert not served.thread.is_alive()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", served.port))


def waiting_file(served: Running, monkeypatch: pytest.MonkeyPatch) -> tuple[Future[Any], threading.Event]:
    """The answer to a file that the model does not hear before an event."""
    model, go_on = served.models.first.transcriber, threading.Event()
    hear = model.hear

    def slow(windows, request, languages):  # type: ignore[no-untyped-def]
        assert go_on.wait(60)
        return hear(windows, request, languages)

    monkeypatch.setattr(model, "hear", slow)
    file = ThreadPoolExecutor(1).submit(served.post, wav(pcm(1.0)))
    wait_for(lambda: served.server.state.num_requests == 1)
    return file, go_on


def test_a_server_that_is_being_stopped_takes_nothing_new(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running({"toy": str(bundle)}) as served:
        file, go_on = waiting_file(served, monkeypatch)
        served.server.stop()
        wait_for(lambda: served.server.state.stopping.is_set())
        health = served.get("/health")
        assert (health.status_code, health.json()["status"]) == (503, "stopping")
        assert served.post(wav(pcm(1.0))).status_code == 503
        with pytest.raises(InvalidStatus) as refused, served.connect():
            pass
        assert refused.value.response.status_code == 503
        go_on.set()
        assert file.result().status_code == 200


def test_a_client_that_is_slow_to_go_is_not_waited_for_longer_than_grace(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running({"toy": str(bundle)}, ServerSettings(grace_seconds=0.2)) as served:
        file, go_on = waiting_file(served, monkeypatch)
        with served.connect() as client:
            served.server.stop()
            assert events_of(client)[-1]["type"] == "error"
        served.thread.join(60)
        assert not served.thread.is_alive()
        go_on.set()
        assert isinstance(file.exception(60), Exception) or file.result().status_code >= 500


def test_a_session_that_has_much_to_say_holds_up_nobody(served: Running, bundle: Path) -> None:
    """A minute at once waits for its turn at every step; and no more of it than some seconds is held."""
    served.wait_until_idle()
    with served.connect() as greedy:
        sender = threading.Thread(target=lambda: _send_all(greedy, pcm(60.0, 1)))
        sender.start()
        wait_for(lambda: served.server.state.num_sessions == 1)
        with served.connect() as client:
            assert texts(speak(client, DATA)) == said(bundle, DATA)
        sender.join(100)
        events = events_of(greedy)
    assert events[-1] == {"type": "end", "heard": 60.0}


def _send_all(client: Any, data: bytes) -> None:
    try:
        for start in range(0, len(data), 16000):
            client.send(data[start : start + 16000])
        client.send(json.dumps({"type": "end"}))
    except ConnectionClosed:
        pass
