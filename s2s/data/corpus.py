"""A corpus: utterances, what is wrong with some of them, and where they come from."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lhotse import CutSet
from lhotse.cut import Cut

from s2s.data.cuts import origin
from s2s.data.jsonl import read_cuts
from s2s.data.kaldi import read_kaldi
from s2s.data.problems import Problem
from s2s.data.shar import PREFIX, read_shar
from s2s.errors import UserError

StrPath = str | os.PathLike[str]


@dataclass(frozen=True)
class Corpus:
    """Cuts in file order, held in memory; the problems found on the way; the files or folders they come from."""

    cuts: CutSet
    problems: list[Problem]
    sources: tuple[Path, ...]


def load_corpus(paths: StrPath | Sequence[StrPath]) -> Corpus:
    """Read a Kaldi data directory, a file of Lhotse cuts or a folder of Lhotse Shar, or several of them joined.

    Raises UserError for any other thing, for what is malformed (with file and line), and for an id that is there twice.
    """
    if isinstance(paths, str | os.PathLike):
        paths = [paths]
    if not paths:
        raise UserError("no corpus given; expected Kaldi data directories or Lhotse cuts (.jsonl.gz)")
    seen: dict[str, Cut] = {}
    problems: list[Problem] = []
    for path in map(Path, paths):
        cuts, found = _read(path)
        problems += found
        for cut in cuts:
            if cut.id in seen:
                raise UserError(
                    f"utterance '{cut.id}' is both in {origin(seen[cut.id])} and {origin(cut)}; "
                    "ids must differ between joined corpora: rename or leave one out"
                )
            seen[cut.id] = cut
    return Corpus(CutSet.from_cuts(seen.values()), problems, tuple(map(Path, paths)))


def _read(path: Path) -> tuple[CutSet, list[Problem]]:
    if str(path).startswith(PREFIX):
        return read_shar(Path(str(path)[len(PREFIX) :]))
    if is_cuts_file(path):
        if not path.is_file():
            raise UserError(f"{path}: no such file")
        return read_cuts(path)
    if path.is_dir() and (path / "wav.scp").is_file():
        return read_kaldi(path)
    found = "a folder without wav.scp" if path.is_dir() else "some other file" if path.exists() else "not there"
    raise UserError(
        f"{path}: {found}; expected a Kaldi data directory (with wav.scp), Lhotse cuts (.jsonl, .jsonl.gz) "
        f"or {PREFIX}DIR for a folder of Lhotse Shar"
    )


def is_cuts_file(path: Path) -> bool:
    """Whether the name is that of a file of Lhotse cuts."""
    return path.name.endswith((".jsonl", ".jsonl.gz"))
