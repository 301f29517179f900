"""Segments of text with their references and the outputs of one or more systems."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from s2s.errors import UserError
from s2s.scoring.transcripts import numbered_lines, read_transcripts

StrPath = str | os.PathLike[str]


@dataclass(frozen=True)
class Lines:
    """One file: its N segments, empty ones included, and the ids it lacks or has too many."""

    name: str
    texts: tuple[str, ...]
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()

    @property
    def empty(self) -> int:
        """How many segments hold no text."""
        return sum(not text.strip() for text in self.texts)


@dataclass(frozen=True)
class ParallelText:
    """N segments: an id each (the line's number where files have none), references and outputs in the same order."""

    ids: tuple[str, ...]
    references: tuple[Lines, ...]
    systems: tuple[Lines, ...]

    @property
    def reference_texts(self) -> list[list[str]]:
        """The references as sacrebleu takes them: a list of N texts for each."""
        return [list(lines.texts) for lines in self.references]


def read_parallel(references: Sequence[StrPath], systems: Sequence[StrPath], keyed: bool = False) -> ParallelText:
    """Read files of one segment a line, or with `keyed` files with utterance ids, Kaldi `text` or NIST `trn`.

    Without ids, files must have equally many lines. With ids, the first reference says which segments there are and
    in what order; another reference must have them all, a system's output that is missing counts as empty and one
    that is extra is not counted. Only a line feed ends a line; white space at the end of a line goes, as in sacrebleu.
    Raises UserError, naming files and lines, for what is not UTF-8, counts that differ, ids without a match, and
    references without any text.
    """
    text = _read_keyed(references, systems) if keyed else _read_lines(references, systems)
    for lines in text.references:
        if not any(each.strip() for each in lines.texts):
            raise UserError(f"{lines.name}: no text in it: a score against empty references is undefined")
    return text


def _read_lines(references: Sequence[StrPath], systems: Sequence[StrPath]) -> ParallelText:
    files = [Lines(_name(path), tuple(line.rstrip() for _, line in numbered_lines(path))) for path in references]
    outputs = [Lines(_name(path), tuple(line.rstrip() for _, line in numbered_lines(path))) for path in systems]
    first = files[0]
    for lines in (*files[1:], *outputs):
        if len(lines.texts) != len(first.texts):
            raise UserError(
                f"{first.name} has {len(first.texts)} lines, {lines.name} has {len(lines.texts)}: expected as many, "
                "a line a segment, empty where there is no text; files with utterance ids need --kaldi"
            )
    return ParallelText(tuple(str(number + 1) for number in range(len(first.texts))), tuple(files), tuple(outputs))


def _read_keyed(references: Sequence[StrPath], systems: Sequence[StrPath]) -> ParallelText:
    first = read_transcripts(references[0])
    others = {_name(path): read_transcripts(path) for path in references[1:]}
    for name, texts in others.items():
        lacking = [key for key in first if key not in texts]
        if lacking:
            raise UserError(
                f"{name}: {len(lacking)} of the {len(first)} utterances of {_name(references[0])} are not in it, "
                f"'{lacking[0]}' for one; every reference must have them all"
            )
    outputs = [(_name(path), read_transcripts(path)) for path in systems]
    for name, texts in outputs:
        if first and first.keys().isdisjoint(texts):
            here = f"this one starts with '{next(iter(texts))}'" if texts else "this one is empty"
            raise UserError(
                f"{name}: no utterance id of {_name(references[0])} is in it: that one starts with "
                f"'{next(iter(first))}', {here}"
            )
    return ParallelText(
        tuple(first),
        tuple(_by_id(name, texts, first) for name, texts in ((_name(references[0]), first), *others.items())),
        tuple(_by_id(name, texts, first) for name, texts in outputs),
    )


def _by_id(name: str, texts: Mapping[str, str], ids: Mapping[str, str]) -> Lines:
    return Lines(
        name,
        tuple(texts.get(key, "") for key in ids),
        tuple(key for key in ids if key not in texts),
        tuple(key for key in texts if key not in ids),
    )


def _name(path: StrPath) -> str:
    return "standard input" if os.fspath(path) == "-" else os.fspath(path)
