"""Which recordings a command is asked to read: files, folders, standard input."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from s2s.errors import UserError

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
