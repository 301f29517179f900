"""Clients of a server that speak real recordings at the speed of speech, and note when they are told what."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import numpy as np
from websockets.asyncio.client import connect

from s2s.audio.read import read_audio

RATE = 16000
PIECE = 0.1  # seconds that are sent at once
PAUSE = 1.5  # seconds of silence behind a recording: longer than an end point's


@dataclass
class Delays:
    """What was measured of a stream.

    Attributes:
        final: seconds from when the last audio that a final text depends on was sent until the text was there.
        spoken: from the end of its last word, the silence of the end point counted.
        behind: seconds by which the client itself was late.
        error: why it ended early.
    """

    final: list[float] = field(default_factory=list)
    spoken: list[float] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    behind: float = 0.0
    error: str | None = None


def speech(paths: Sequence[os.PathLike[str] | str], seconds: float, seed: int) -> bytes:
    """Recordings one after another in an order of their own, with silence between, as 16-bit samples."""
    order = np.random.default_rng(seed).permutation(len(paths))
    parts: list[np.ndarray] = []
    length = 0
    while length < seconds * RATE:
        for i in order:
            samples = read_audio(paths[i], RATE)[0].numpy()
            noise = np.zeros(round(PAUSE * RATE), np.float32)
            parts += [samples, noise]
            length += len(samples) + len(noise)
            if length >= seconds * RATE:
                break
    joined = np.concatenate(parts)
    return (joined.clip(-1, 1) * 32767).astype("<i2").tobytes()


async def speak(
    address: str,
    query: dict[str, str],
    data: bytes,
    wait: float = 0.0,
    on_final: Callable[[float], None] = lambda delay: None,
) -> Delays:
    """One live session, begun after `wait` seconds; `on_final` is told of every final's delay. Cancelled: killed."""
    found = Delays()
    await asyncio.sleep(wait)
    url = f"{address.replace('http', 'ws', 1)}/v1/audio/stream?{urlencode({**query, 'sample_rate': str(RATE)})}"
    try:
        async with connect(url, open_timeout=120, ping_interval=None, max_queue=None) as client:
            try:
                await _speak(client, data, found, on_final)
            except asyncio.CancelledError:
                client.transport.abort()
                raise
    except Exception as error:
        found.error = f"{type(error).__name__}: {error}"
    return found


async def _speak(client: Any, data: bytes, found: Delays, on_final: Callable[[float], None]) -> None:
    begun = time.monotonic()
    hearing = asyncio.create_task(_hear(client, begun, found, on_final))
    size = round(PIECE * RATE) * 2
    try:
        for number, start in enumerate(range(0, len(data), size), start=1):
            due = begun + number * PIECE  # a piece can be sent when it has been spoken
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            found.behind = max(found.behind, time.monotonic() - due)
            await client.send(data[start : start + size])
        await client.send(json.dumps({"type": "end"}))
        await asyncio.wait_for(hearing, 120)
    finally:
        hearing.cancel()
        await asyncio.gather(hearing, return_exceptions=True)


async def _hear(client: Any, begun: float, found: Delays, on_final: Callable[[float], None]) -> None:
    async for message in client:
        now, event = time.monotonic() - begun, json.loads(message)
        if event["type"] == "final" and event["text"]:
            found.final.append(now - event["heard"])
            on_final(found.final[-1])
            found.spoken.append(now - event["end"])
            found.texts.append(event["text"])
        if event["type"] == "error":
            found.error = event["error"]["message"]


@contextmanager
def server(model: str, threads: int, *options: str) -> Iterator[tuple[str, int]]:
    """`s2s serve` in a process of its own: its address and number."""
    command = [sys.executable, "-m", "s2s.cli.main", "serve", "--port", "0", "--model", f"model={model}"]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    command += ["--threads", str(threads), "--max-sessions", "1000", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        try:
            for line in process.stderr:
                if address := re.search(r" at (http://\S+)", line):
                    break
                sys.stderr.write(line)
            else:
                raise SystemExit("the server did not start")
            yield address[1], process.pid
        finally:
            process.terminate()
            for line in process.stderr:
                sys.stderr.write(line)


def cpu_seconds(pid: int) -> float:
    """Time of the processor that a process has used (Linux)."""
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mib(pid: int) -> float:
    """Memory that a process has (Linux)."""
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
