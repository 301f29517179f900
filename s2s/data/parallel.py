"""Parallel text: a folder with one file a language, `text.en`, `text.de`, in which line n says the same everywhere."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from s2s.errors import UserError, nearest
from s2s.scoring.transcripts import numbered_lines

_PAIR = re.compile(r"([^-\s]+)-([^-\s]+)")


@dataclass(frozen=True)
class Direction:
    """From which language into which; the source of a model that reads several at once is such as en+de."""

    source: str
    target: str

    @property
    def sources(self) -> tuple[str, ...]:
        """The languages of the source, one by one."""
        return tuple(self.source.split("+"))

    @classmethod
    def of(cls, text: str) -> Direction:
        """That of "en-de", or of "en+de-fr"; UserError for anything else."""
        found = _PAIR.fullmatch(text)
        if not found or not all(found[1].split("+")) or len({*found[1].split("+")}) <= found[1].count("+"):
            raise UserError(
                f"pair '{text}': expected two languages such as en-de, source and target, or several sources such as "
                "en+de-fr"
            )
        return cls(found[1], found[2])

    def __str__(self) -> str:
        return f"{self.source}-{self.target}"


@dataclass(frozen=True)
class Sentence:
    """A sentence and what it is in another language; `where` says which line it is.

    `others` are the same sentence in further languages that are read with it.
    """

    where: str
    direction: Direction
    source: str
    target: str
    others: tuple[str, ...] = ()


def read_parallel(
    folders: Sequence[str | os.PathLike[str]], directions: Sequence[Direction]
) -> tuple[list[Sentence], int]:
    """All sentences of every direction that are there on both sides, and how many lines were empty on one.

    A folder may lack some of the languages, but not all of the directions, and none may be found nowhere. Raises
    UserError where a folder or a direction has no text, the numbers of lines differ (both are named), or a line is not
    UTF-8.
    """
    found: list[Sentence] = []
    num_empty = 0
    missing = set(directions)
    for folder in map(Path, folders):
        here = [each for each in directions if all(_file(folder, code).is_file() for code in _codes(each))]
        if not here:
            raise UserError(f"{folder}: {_absence(folder, directions)}")
        missing -= set(here)
        texts = {code: read_lines(_file(folder, code)) for each in here for code in _codes(each)}
        for each in here:
            target = _file(folder, each.target)
            for code in each.sources:
                check_same_length(_file(folder, code), texts[code], target, texts[each.target])
            for number, lines in enumerate(zip(*(texts[code] for code in _codes(each)), strict=True), start=1):
                if all(line.strip() for line in lines):
                    source, *others, written = lines
                    found.append(Sentence(f"{target}:{number}", each, source, written, tuple(others)))
                else:
                    num_empty += 1
    if missing:
        raise UserError(
            f"no folder has the text of {', '.join(sorted(map(str, missing)))}: {', '.join(map(str, folders))}"
        )
    return found, num_empty


def read_lines(path: str | os.PathLike[str]) -> list[str]:
    """The lines of a UTF-8 file, empty ones too; UserError names a line that is not UTF-8."""
    return [line for _, line in numbered_lines(path)]


def check_same_length(
    path: str | os.PathLike[str], lines: Sequence[str], other_path: str | os.PathLike[str], other_lines: Sequence[str]
) -> None:
    """Raise UserError where two files that belong together have different numbers of lines."""
    if len(lines) != len(other_lines):
        raise UserError(
            f"{path} has {len(lines)} lines, {other_path} has {len(other_lines)}: line n of one must be the "
            "translation of line n of the other; an empty line stands for a sentence that is missing"
        )


def _file(folder: Path, language: str) -> Path:
    return folder / f"text.{language}"


def _codes(direction: Direction) -> tuple[str, ...]:
    return *direction.sources, direction.target


def _absence(folder: Path, directions: Sequence[Direction]) -> str:
    if not folder.is_dir():
        return "no such folder; expected one with files such as text.en and text.de"
    there = sorted(path.name.removeprefix("text.") for path in folder.glob("text.*"))
    wanted = directions[0]
    lacking = next(code for code in _codes(wanted) if code not in there)
    files = f"there are {', '.join(f'text.{code}' for code in there)}" if there else "there are no such files"
    return f"no text.{lacking}, which {wanted} needs; {files}.{nearest(lacking, there)}"
