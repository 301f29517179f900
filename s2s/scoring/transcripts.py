"""Transcripts in the two plain formats of the field, Kaldi `text` and NIST `trn`; and who spoke them."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path

from s2s.errors import UserError
from s2s.files import replacing

_TRN = re.compile(r"(.*?)\s*\(([^()\s]+)\)", re.DOTALL)
_ALTERNATIVES = re.compile(r"(?:^|\s)\{\s.*\s/\s.*\s\}(?:\s|$)")


def numbered_lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, str]]:
    """The lines of a UTF-8 file ("-": standard input), numbered from 1, without their ends and a byte order mark.

    Only a line feed ends a line. Raises UserError where the file cannot be read or a line is not UTF-8.
    """
    name = "standard input" if os.fspath(path) == "-" else os.fspath(path)
    try:
        with nullcontext(sys.stdin.buffer) if os.fspath(path) == "-" else open(path, "rb") as stream:
            for number, line in enumerate(stream, start=1):
                try:
                    text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    raise UserError(
                        f"{name}:{number}: not UTF-8 ({error.reason}); convert the file to UTF-8"
                    ) from error
                yield number, text.removesuffix("\n").removesuffix("\r")
    except OSError as error:
        raise UserError(f"{name}: cannot read it: {error.strerror or error}") from error


def read_transcripts(path: str | os.PathLike[str]) -> dict[str, str]:
    """Transcripts by utterance id, in the order of the file.

    Kaldi `text` lines are `id words...` (an id alone is an empty transcript), NIST `trn` lines `words... (id)`. A file
    named `*.trn` is trn, one named `text` is Kaldi; any other is trn where most lines end with `(id)`. Empty lines are
    passed over, and `;;` comments in trn. Raises UserError, with file and line, for a line that is not of the format,
    an id that comes twice, or alternatives (`{ a / b }`), which are not scored here.
    """
    lines = [(number, line) for number, line in numbered_lines(path) if line.strip()]
    is_trn = _is_trn(Path(path), [line for _, line in lines])
    transcripts: dict[str, str] = {}
    first_seen: dict[str, int] = {}
    for number, line in lines:
        where = f"{path}:{number}"
        if is_trn and line.startswith(";;"):
            continue
        utterance, words = _trn_fields(line, where) if is_trn else _kaldi_fields(line, where)
        if utterance in transcripts:
            raise UserError(
                f"{where}: utterance '{utterance}' is already on line {first_seen[utterance]}: keep one of them"
            )
        transcripts[utterance] = words
        first_seen[utterance] = number
    return transcripts


def read_speakers(path: str | os.PathLike[str], utterances: Iterable[str]) -> dict[str, str]:
    """Speakers by utterance id, of Kaldi `utt2spk` lines `id speaker`; those of other utterances may be there too.

    Raises UserError, with file and line, for a line without a speaker, an id that comes twice, and where none of the
    utterances is there.
    """
    speakers: dict[str, str] = {}
    for number, line in numbered_lines(path):
        fields = line.split()
        if not fields:
            continue
        if len(fields) != 2:
            raise UserError(f"{path}:{number}: expected `id speaker`, got {len(fields)} fields")
        if fields[0] in speakers:
            raise UserError(f"{path}:{number}: utterance '{fields[0]}' has a speaker already: keep one of them")
        speakers[fields[0]] = fields[1]
    if speakers.keys().isdisjoint(utterances):
        raise UserError(f"{path}: none of the utterances that are scored is in it")
    return speakers


def write_transcripts(path: str | os.PathLike[str], transcripts: Mapping[str, str]) -> None:
    """Write NIST `trn` where the name ends with `.trn`, else Kaldi `text`.

    Raises UserError for an id or a text that the format cannot hold.
    """
    path = Path(path)
    is_trn = path.suffix == ".trn"
    lines = []
    for utterance, words in transcripts.items():
        if not utterance or re.search(r"[\s()]" if is_trn else r"\s", utterance):
            kinds = "white space or parentheses" if is_trn else "white space"
            raise UserError(
                f"{path}: utterance id '{utterance}' cannot be written: it must be non-empty, without {kinds}"
            )
        if "\n" in words:
            raise UserError(f"{path}: the transcript of '{utterance}' has a line break: make it one line")
        if is_trn and words.lstrip().startswith(";;"):
            raise UserError(
                f"{path}: the transcript of '{utterance}' starts with ';;', a comment in trn: write Kaldi text"
            )
        lines.append(f"{words} ({utterance})".strip() if is_trn else f"{utterance} {words}".strip())
    try:
        with replacing(path) as beside:
            beside.write_bytes("".join(f"{line}\n" for line in lines).encode())
    except OSError as error:
        raise UserError(f"{path}: cannot write it: {error.strerror or error}") from error


def _is_trn(path: Path, lines: list[str]) -> bool:
    if path.suffix == ".trn" or path.name == "text":
        return path.suffix == ".trn"
    return sum(bool(_TRN.fullmatch(line.rstrip())) for line in lines) > len(lines) / 2


def _kaldi_fields(line: str, where: str) -> tuple[str, str]:
    if line[0] in " \t":
        raise UserError(f"{where}: the line starts with white space: expected `id words...`")
    utterance, *words = re.split(r"[ \t]+", line, maxsplit=1)
    return utterance, words[0].strip() if words else ""


def _trn_fields(line: str, where: str) -> tuple[str, str]:
    found = _TRN.fullmatch(line.rstrip())
    if found is None:
        raise UserError(f"{where}: expected `words... (id)`, the utterance id in parentheses at the end of the line")
    if _ALTERNATIVES.search(found[1]):
        raise UserError(f"{where}: alternatives `{{ a / b }}` are not scored: write the one that was said")
    return found[2], found[1].strip()
