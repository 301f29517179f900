"""Which recordings a command is asked to read: files, folders, standard input."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from s2s.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from s2s.audio.pipe import RawFormat
    from s2s.transcription.recording import Recording

_KINDS = (
    "3g2 3gp aac ac3 aif aifc aiff amr ape au avi caf flac flv m2ts m4a m4b m4v mka mkv mov mp2 mp3 mp4 mpeg mpg oga "
    "ogg ogv opus rf64 snd sph spx w64 wav wave webm wma wmv wv"
)
SUFFIXES = frozenset(f".{kind}" for kind in _KINDS.split())
"""What the names of audio and video files end with, in lower case."""


@dataclass(frozen=True)
class Input:
    """A recording to read: a file, or standard input (`path` None).

    `relative` is its place below the folder that was asked for, of a file alone its name.
    """

    path: Path | None
    relative: Path

    def __str__(self) -> str:
        return "standard input" if self.path is None else str(self.path)


def collect(paths: Iterable[Path]) -> list[Input]:
    """The recordings that files, folders and `-` name, in that order, each file once.

    A folder is searched, with those below it and those it links to, for files that end with one of `SUFFIXES`, sorted
    by path; names that start with a full stop are passed over. A file named itself is taken whatever its name, even if
    there is none: reading it says so, and the others go on. Raises UserError for a folder without recordings or that
    cannot be read, and for a second `-`.
    """
    found: dict[Path | None, Input] = {}
    for path in paths:
        if path == Path("-"):
            if None in found:
                raise UserError("-: is given twice, standard input can be read once; give it once")
            found[None] = Input(None, Path("stdin"))
            continue
        is_folder = os.path.isdir(path)  # where it may not be looked at, reading says so
        folder = path if is_folder else path.parent
        for file in _recordings(path) if is_folder else [path]:
            found.setdefault(file.parent.resolve() / file.name, Input(file, file.relative_to(folder)))
    return list(found.values())


def raw_format(raw: str | None, files: Sequence[Path]) -> RawFormat | None:
    """How standard input is to be read, where it has no header; UserError where nothing can come from there."""
    from s2s.audio.pipe import parse_raw_format

    if Path("-") not in files:
        if raw:
            raise UserError(f"--raw {raw}: is for standard input; give `-` as the file")
    elif sys.stdin is None or sys.stdin.isatty():
        raise UserError("-: standard input is a terminal; pipe audio into it, or name a file")
    return parse_raw_format(raw) if raw else None


def recording(each: Input, raw: RawFormat | None, channel: int | None, block_seconds: float = 30.0) -> Recording:
    """What an input holds, read when it is asked for, in blocks of that many seconds."""
    from s2s.audio.pipe import read_stdin
    from s2s.audio.read import read_blocks
    from s2s.transcription.recording import Recording

    def blocks(rate: int) -> Iterator[Tensor]:
        try:
            if each.path is None:
                yield from read_stdin(sys.stdin.buffer, rate, raw, block_seconds, channel)
            else:
                yield from read_blocks(each.path, rate, block_seconds, channel)
        except OSError as error:
            raise UserError(f"{each}: cannot be read: {error.strerror or error}") from error
        except UnicodeEncodeError as error:  # by libsndfile's binding
            raise UserError(f"{each}: the file's name is not UTF-8; rename it") from error

    return Recording(str(each), blocks)


def _recordings(folder: Path) -> list[Path]:
    """The audio and video files of a folder and those below it."""

    def refuse(error: OSError) -> None:
        raise UserError(f"{error.filename}: cannot be searched: {error.strerror}; name the files to read") from error

    files: list[Path] = []
    seen: set[Path] = set()  # a link may lead back
    for here, folders, names in os.walk(folder, followlinks=True, onerror=refuse):
        seen.add(Path(here).resolve())
        shown = sorted(name for name in folders if not name.startswith("."))
        folders[:] = [name for name in shown if Path(here, name).resolve() not in seen]
        shown = [name for name in names if not name.startswith(".")]
        files += [Path(here, name) for name in shown if Path(name).suffix.lower() in SUFFIXES]
    if not files:
        raise UserError(
            f"{folder}: no audio or video file in this folder, by its name's end (wav, flac, mp3, mp4, ...); "
            "name the files themselves, or another folder"
        )
    return sorted(files)
