"""Where transcripts go: a file for each recording and format, none written twice or over a recording."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from s2s.cli.inputs import Input
from s2s.errors import UserError
from s2s.files import replacing
from s2s.transcription.formats import FORMATS, formats_named
from s2s.transcription.subtitles import one_line
from s2s.transcription.transcript import Segment, Transcript


@dataclass(frozen=True)
class Output:
    """Where the transcript of one recording goes: `name`, like no other's, and by format the files; none: printed."""

    name: str
    paths: Mapping[str, Path]


def output_paths(inputs: Sequence[Input], output_dir: Path | None, formats: Sequence[str]) -> dict[Input, Output]:
    """Where the transcript of each input goes; it depends on what was asked for alone, not on what can be read.

    A file is `output_dir`, the place of its recording below the folder asked for, and the format in place of the
    suffix: `talks/may/a.wav` of `talks` becomes `may/a.srt`. Where several would be the same file, each of them keeps
    its own suffix (`a.wav.srt`, `a.mp3.srt`); where they are still the same, each is put in a folder named as the one
    it comes from, without its suffix or else with it, and so on upwards. Without `output_dir` it is the current folder,
    but txt alone goes to standard output: no paths.

    Raises UserError where `output_dir` is a file, and where an output is one of the inputs.
    """
    printed = output_dir is None and list(formats) == ["txt"]
    folder = output_dir or Path()
    if not printed and folder.exists() and not folder.is_dir():
        raise UserError(f"--output-dir {folder}: is a file, expected a folder; name another")
    outputs = {
        each: Output(str(name), {} if printed else {kind: folder / f"{name}.{kind}" for kind in formats})
        for each, name in _names(inputs).items()
    }
    read = {_identity(each.path) for each in inputs if each.path is not None and os.path.exists(each.path)}
    for output in outputs.values():
        for path in output.paths.values():
            if path.exists() and _identity(path) in read:
                raise UserError(f"{path}: is to be read and would be overwritten; name another folder as --output-dir")
    return outputs


def formats_of(choices: Sequence[str]) -> list[str]:
    """The formats that are asked for, each once."""
    try:
        named = [formats_named(name.strip()) for choice in choices for name in choice.split(",")]
    except UserError as error:
        raise UserError(f"--output-format: {error}") from error
    return list(dict.fromkeys(kind for kinds in named for kind in kinds))


def check_can_write(outputs: Iterable[Output]) -> None:
    """Raise UserError where the folder of an output cannot be made or written to."""
    for folder in dict.fromkeys(path.parent for output in outputs for path in output.paths.values()):
        there = next(parent for parent in (folder, *folder.parents) if parent.exists())
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            problem = "no permission to write there" if there.is_dir() else "is a file, expected a folder"
            raise UserError(f"--output-dir: {there}: {problem}; name another folder")


def write(transcript: Transcript, output: Output) -> None:
    """Write a transcript to its files, each whole or not at all.

    Raises UserError where it lacks what a format needs, before any file is written, and where one cannot be written.
    """
    contents = {path: FORMATS[kind](transcript, output.name) for kind, path in output.paths.items()}
    for path, content in contents.items():
        try:
            with replacing(path) as beside:
                beside.write_bytes(content.encode())
        except OSError as error:
            raise UserError(f"{path}: cannot write it: {error.strerror or error}") from error


def print_segments(segments: Sequence[Segment], prefix: str, timed: bool) -> int:
    """Print a line, begun with `prefix`, for each segment that has text; how many."""
    lines = [
        f"{prefix}[{_clock(segment.start)} --> {_clock(segment.end)}] {text}" if timed else prefix + text
        for segment in segments
        if (text := one_line(segment.text))
    ]
    print_lines(lines)
    return len(lines)


def print_lines(lines: Sequence[str]) -> None:
    """Print lines at once; names of files in them are written as they are on disk."""
    sys.stdout.buffer.write("".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape"))
    sys.stdout.buffer.flush()


def _clock(seconds: float) -> str:
    """Minutes, seconds and milliseconds, from an hour on with the hours: 00:04.320, 01:00:04.320."""
    minutes, milliseconds = divmod(round(1000 * seconds), 60_000)
    hours = f"{minutes // 60:02}:" if minutes >= 60 else ""
    return f"{hours}{minutes % 60:02}:{milliseconds // 1000:02}.{milliseconds % 1000:03}"


def _names(inputs: Sequence[Input]) -> dict[Input, Path]:
    """A name for each input, the first of its candidates that no other has."""
    candidates = {each: list(_candidates(each)) for each in inputs}
    while True:
        # Some file systems do not tell A from a.
        keys = {each: str(names[0]).casefold() for each, names in candidates.items()}
        counts = Counter(keys.values())
        again = [each for each, names in candidates.items() if counts[keys[each]] > 1 and len(names) > 1]
        if not again:
            return {each: names[0] for each, names in candidates.items()}
        for each in again:
            del candidates[each][0]


def _candidates(each: Input) -> Iterator[Path]:
    """Without suffix, with it, and both with more and more of the folders that lead there."""
    if each.path is None:
        yield each.relative
        return
    top = each.path.absolute().parents[len(each.relative.parts) - 1].resolve()
    for place in accumulate(reversed(top.parts[1:]), lambda below, folder: Path(folder) / below, initial=each.relative):
        yield place.with_suffix("")
        yield place


def _identity(path: Path) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino
