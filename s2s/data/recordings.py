"""Audio files as Lhotse recordings, their headers read many at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from lhotse import Recording
from lhotse.audio import AudioSource

from s2s.audio.read import AudioInfo, audio_info
from s2s.data.problems import Kind
from s2s.errors import UserError

A = TypeVar("A")
R = TypeVar("R")


@dataclass(frozen=True)
class Fault:
    """Why an audio file cannot be used."""

    kind: Kind
    message: str


def in_threads(function: Callable[[A], R], items: Iterable[A]) -> Iterator[R]:
    """`map` in a few threads, in order; Ctrl-C does not wait for what is still queued."""
    pool = ThreadPoolExecutor(max_workers=min(8, 2 * (os.cpu_count() or 1)))
    try:
        yield from pool.map(function, items)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def locate(path: str, folder: Path) -> Path:
    """`path` as it stands (relative to the current directory, as in Kaldi), else relative to `folder`."""
    beside = folder / path
    return beside if not Path(path).exists() and beside.exists() else Path(path)


def header(path: Path) -> AudioInfo | Fault:
    """What the header of an audio file says, or why it says nothing."""
    if not path.is_file():
        return Fault("missing_audio", f"no audio file {path}")
    try:
        info = audio_info(path)
    except UserError as error:
        return Fault("bad_audio", str(error))
    return info if info.num_samples > 0 else Fault("bad_audio", f"{path} holds no samples")


def headers(paths: Iterable[Path]) -> dict[Path, AudioInfo | Fault]:
    """The headers of many files, each file read once."""
    unique = list(dict.fromkeys(paths))
    return dict(zip(unique, in_threads(header, unique), strict=True))


def recording(recording_id: str, path: Path, info: AudioInfo) -> Recording:
    """A Lhotse recording of one file, from its header."""
    channels = list(range(info.num_channels))
    return Recording(
        id=recording_id,
        sources=[AudioSource(type="file", channels=channels, source=str(path))],
        sampling_rate=info.sampling_rate,
        num_samples=info.num_samples,
        duration=info.num_samples / info.sampling_rate,
        channel_ids=channels,
    )
