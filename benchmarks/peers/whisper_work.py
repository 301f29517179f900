"""What the scripts that transcribe a work of ../whisper.py share: options, audio, timing, the answer.

Runs in the peers' environment and in ours, and imports no torch, which faster-whisper does without.
"""

from __future__ import annotations

import json
import sys
import time
import wave
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

MODES = ("sequential", "batched")
Samples = np.ndarray  # (n,) float32, in [-1, 1], at 16 kHz
# Told of the text of a recording, by its number, piece by piece as each is known; an empty one only stops the clock.
Tell = Callable[[int, str], None]
Transcribe = Callable[[Sequence[Samples], Tell], None]


def arguments(description: str | None) -> ArgumentParser:
    parser = ArgumentParser(description=description)
    parser.add_argument("work", type=Path, help="folder that benchmarks/whisper.py made")
    parser.add_argument("out", type=Path, help="JSON to write")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--audio", choices=("short", "long"), default="short")
    parser.add_argument(
        "--mode", choices=MODES, default="sequential", help="one recording or window at a time, or many"
    )
    return parser


class Work:
    """The files of WORK: what is asked, the recordings, and one more to warm up with."""

    def __init__(self, options: Namespace) -> None:
        self.folder: Path = options.work
        self.config: dict[str, Any] = json.loads((self.folder / "work.json").read_text(encoding="utf-8"))
        self.beam_size: int = self.config["beam_size"]
        self.language: str = self.config["language"]
        self.recordings: list[dict[str, Any]] = self.config[options.audio]

    def samples(self, recording: dict[str, Any]) -> Samples:
        with wave.open(str(self.folder / recording["file"])) as file:
            return np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 32768


def measure(
    options: Namespace, load: Callable[[Work], tuple[Transcribe, dict[str, Any]]], packages: Sequence[str], notes: str
) -> None:
    """Load a model, warm it up, transcribe, and write the answer; the first of `packages` is the peer.

    Sequential: one call a recording; batched: one call for all. `load` returns a model's settings too. Samples are read
    before the clock starts.
    """
    work = Work(options)
    waveforms = [work.samples(recording) for recording in work.recordings]
    started = time.perf_counter()
    transcribe, settings = load(work)
    load_seconds = time.perf_counter() - started
    transcribe([work.samples(work.config["warm_up"])], lambda number, text: None)

    texts = [""] * len(waveforms)
    count = 1 if options.mode == "sequential" else len(waveforms)
    seconds: list[float] = []
    first_seconds: list[float] = []
    for first in range(0, len(waveforms), count):
        heard: list[float] = []

        def tell(number: int, text: str, first: int = first, heard: list[float] = heard) -> None:
            heard.append(time.perf_counter())
            texts[first + number] += text

        started = time.perf_counter()
        transcribe(waveforms[first : first + count], tell)
        seconds.append(time.perf_counter() - started)
        first_seconds.append(heard[0] - started if heard else seconds[-1])
        print(f"{options.out.stem}: {first + count} of {len(waveforms)}", file=sys.stderr)
    answer = {
        "peer": packages[0],
        "versions": {name: version(name) for name in packages},
        "threads": options.threads,
        "load_seconds": load_seconds,
        "seconds": seconds,
        "first_result_seconds": first_seconds,
        "peak_rss_mb": peak_rss_mb(),
        "texts": {recording["id"]: text for recording, text in zip(work.recordings, texts, strict=True)},
        "settings": settings,
        "notes": notes,
    }
    options.out.write_text(json.dumps(answer, indent=2) + "\n", encoding="utf-8")


def peak_rss_mb() -> float:
    """Most memory this process has held, in MiB, as in work.py, which imports torch."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 1024
