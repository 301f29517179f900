"""`s2s translate`: text files in another language."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import count, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from s2s.cli.options import Device, Threads, check_device, usage
from s2s.errors import UserError

if TYPE_CHECKING:
    from s2s.translation import Source, Translation, Translator

STDIN = Path("-")
LONGEST_LINE = 1 << 16  # bytes; no model takes so many tokens
_ONE_LINE = str.maketrans("\t\r\n", "   ")

Job = tuple[Path | None, list[Path]]
"""A file to write, None for standard output, and the files to read for it."""


def translate(
    model: Annotated[
        str,
        typer.Option(
            metavar="MODEL",
            help="Translation bundle, folder of Marian or BART that transformers wrote, or repository of the Hugging "
            "Face hub (owner/name).",
        ),
    ],
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FILE|-", help="UTF-8 text, one sentence a line; `-`, the default: standard input."),
    ] = None,
    source_language: Annotated[
        str | None, typer.Option(metavar="CODE", help="Language to read, of a model that takes prompts.")
    ] = None,
    target_language: Annotated[
        str | None, typer.Option(metavar="CODE", help="Language to write, of a model with several.")
    ] = None,
    no_punctuation: Annotated[
        bool, typer.Option("--no-punctuation", help="Write no punctuation, of a model that takes prompts.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where all lines go; default: standard output.")
    ] = None,
    output_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for a file each: DIR/talk.txt for talk.de.")
    ] = None,
    also: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="The same lines in a further language, of a model that reads several at once, in the order of its "
            "training; repeat it.",
        ),
    ] = None,
    decoding: Annotated[
        str, typer.Option(metavar="NAME", help="translation (as the model's makers do), greedy, beam, sampling, ...")
    ] = "translation",
    beam_size: Annotated[int | None, typer.Option(min=1, help="Hypotheses kept in a beam search.")] = None,
    nbest: Annotated[
        int | None, typer.Option(min=1, help="Write so many for each line: its number, score, text; tabs between.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Source tokens encoded at once, padding counted.")] = 1000,
    threads: Threads = None,
    device: Device = "cpu",
    dtype: Annotated[
        str, typer.Option(help="Numbers to calculate with: float32, bfloat16, float16; int8: 8-bit weights on a CPU.")
    ] = "float32",
) -> None:
    """Translate text, a line for a line, in order; empty lines stay empty.

    Lines are read some way ahead, so that those of one length are translated together; typed ones are not. A line that
    cannot be translated (too long, not UTF-8) is named on standard error and gives an empty one, a file that cannot be
    read is named and passed over; the rest go on, and the exit code is then 1. It is 2 for options that make no sense.
    """
    from dataclasses import replace

    import torch

    from s2s.translation import LOOK_AHEAD, Translator, decoding_of, load_translation_model

    files = files or [STDIN]
    problems = Problems()
    with usage():
        if also and len(files) > 1:
            raise UserError("--also: goes with one FILE, whose lines it has in another language")
        if also and STDIN in (*also, files[0]):
            raise UserError("--also: lines of several files belong together; give files, not standard input")
        jobs = _jobs(files, output, output_dir, problems)
    unreadable = [file for file in also or [] if not _can_be_read(file, problems)]  # all are named
    if not jobs or unreadable:
        raise typer.Exit(1)
    if threads:
        torch.set_num_threads(threads)
    bundle = load_translation_model(model, check_device(device), dtype)
    config = replace(decoding_of(bundle.decoding, decoding), nbest=nbest or 1)
    if beam_size:
        config = replace(config, beam_size=beam_size)
    look_ahead = 0 if files == [STDIN] and sys.stdin.isatty() else LOOK_AHEAD
    translator = Translator(
        bundle, config, target_language, batch_size, look_ahead, source_language, not no_punctuation
    )
    with _progress(jobs, to_files=bool(output or output_dir)) as advance:
        for path, sources in jobs:
            try:
                with _sink(path) as write:
                    texts: Iterator[Source] = (t for source in sources for t in _texts(source, translator, problems))
                    if also:
                        texts = _together([*sources, *also], translator, problems)
                    for number, translation in enumerate(translator.translate(texts), start=1):
                        write(_lines(translation, number if nbest else None).encode())
                        advance()
            except UserError as error:
                problems.report(str(error))
    if problems.found:
        raise typer.Exit(1)


class Problems:
    """What went wrong on the way."""

    def __init__(self) -> None:
        self.found = False

    def report(self, problem: str) -> None:
        """Name a problem on standard error."""
        print(f"s2s: error: {problem}", file=sys.stderr)
        self.found = True


def _jobs(files: list[Path], output: Path | None, output_dir: Path | None, problems: Problems) -> list[Job]:
    """What is to be done, without the files that cannot be read: those are reported."""
    from s2s.cli.inputs import Input
    from s2s.cli.outputs import output_paths

    if output and output_dir:
        raise UserError("--output and --output-dir: give one of them")
    if files.count(STDIN) > 1:
        raise UserError("-: is given twice, standard input can be read once; give it once")
    if output and output.is_dir():
        raise UserError(f"--output {output}: is a folder; give a file, or --output-dir")
    if output and output.exists() and any(file.exists() and file.samefile(output) for file in files):
        raise UserError(f"--output {output}: is to be read and would be overwritten; name another file")
    readable = [file for file in files if _can_be_read(file, problems)]
    if output_dir is None:
        return [(output, readable)] if readable else []
    inputs = {file: Input(None, Path("stdin")) if file == STDIN else Input(file, Path(file.name)) for file in files}
    outputs = output_paths(list(inputs.values()), output_dir, ["txt"])
    return [(outputs[inputs[file]].paths["txt"], [file]) for file in dict.fromkeys(readable)]


def _can_be_read(file: Path, problems: Problems) -> bool:
    if file == STDIN:
        return True
    try:
        with file.open("rb") as stream:
            stream.read(1)  # a folder can be opened
    except OSError as error:
        problems.report(f"{file}: cannot read it: {error.strerror or error}")
        return False
    return True


def _texts(source: Path, translator: Translator, problems: Problems) -> Iterator[str]:
    """The lines of a file without their ends, empty where they cannot be translated: that is reported."""
    with nullcontext(sys.stdin.buffer) if source == STDIN else source.open("rb") as stream:
        for number in count(1):
            line = stream.readline(LONGEST_LINE)
            if not line:
                return
            try:
                text = _text(line, stream, is_first=number == 1)
                translator.encode(text)
            except UserError as error:
                problems.report(f"{'standard input' if source == STDIN else source}:{number}: {error}")
                text = ""
            yield text


def _together(files: list[Path], translator: Translator, problems: Problems) -> Iterator[tuple[str, ...]]:
    """The lines of several files, those of one number together; UserError where one has more than another."""
    everything = [_texts(file, translator, problems) for file in files]
    for number, lines in enumerate(zip_longest(*everything), start=1):
        for file, line in zip(files, lines, strict=True):
            if line is None:
                raise UserError(
                    f"{file}: ends before line {number}, and another file has more; line n of all says the same"
                )
        yield lines


def _text(line: bytes, stream: BinaryIO, is_first: bool) -> str:
    """The text of a line whose begin was read; UserError where it is too long or not UTF-8."""
    rest = line
    while len(rest) == LONGEST_LINE and not rest.endswith(b"\n"):
        rest = stream.readline(LONGEST_LINE)
    if rest is not line:
        raise UserError(f"too long: more than {LONGEST_LINE} bytes; translate it a sentence at a time")
    try:
        return line.decode("utf-8-sig" if is_first else "utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise UserError(f"not UTF-8 ({error.reason}); convert the file to UTF-8") from error


def _lines(translation: Translation, number: int | None) -> str:
    """A line of text; with a number, the line of each of the n best: number, score, text."""
    if number is None:
        return translation.text.translate(_ONE_LINE) + "\n"
    best = [translation, *translation.alternatives]
    return "".join(f"{number}\t{each.score:.4f}\t{each.text.translate(_ONE_LINE)}\n" for each in best)


@contextmanager
def _sink(path: Path | None) -> Iterator[Callable[[bytes], None]]:
    """What writes to a file, which is there once all is written, or to standard output, at once."""
    from s2s.files import replacing

    if path is not None:
        with replacing(path) as beside, beside.open("wb") as file:
            yield lambda line: _write(file, line)
        return
    yield lambda line: _write(sys.stdout.buffer, line, flush=True)


def _write(stream: BinaryIO, line: bytes, flush: bool = False) -> None:
    stream.write(line)
    if flush:
        stream.flush()


@contextmanager
def _progress(jobs: list[Job], to_files: bool) -> Iterator[Callable[[], None]]:
    """A bar of lines on the terminal, unless the lines themselves go there; yields what to call for each."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    shown = console.is_terminal and (to_files or not sys.stdout.isatty())
    sources = [source for _, sources in jobs for source in sources]
    total = sum(map(_num_lines, sources)) if shown and STDIN not in sources else None
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True, disable=not shown, redirect_stdout=False) as progress:
        task = progress.add_task("lines", total=total)
        yield lambda: progress.advance(task)


def _num_lines(file: Path) -> int:
    with file.open("rb") as stream:
        return sum(block.count(b"\n") for block in iter(lambda: stream.read(1 << 20), b""))
