"""`s2s transcribe`: text of recordings, printed or in files."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from s2s.cli.inputs import Input, collect, raw_format
from s2s.cli.jobs import Executor, Jobs, check_executor
from s2s.cli.options import Device, Dtype, Threads, check_decoding, check_device, usage
from s2s.errors import UserError

if TYPE_CHECKING:
    from s2s.cli.outputs import Output
    from s2s.cli.transcribe_job import TranscribeSettings
    from s2s.decoding.config import DecodingConfig


def transcribe(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE|FOLDER|-",
            help="Recordings: wav, flac, ogg, opus, mp3, any other kind where ffmpeg is installed; of a folder, all "
            "in it and below; `-`: a WAV on standard input.",
        ),
    ],
    model: Annotated[
        str,
        typer.Option(
            metavar="MODEL",
            help="Name (whisper-tiny.en, whisper-base, whisper-large-v3, ...), bundle, folder or file of Whisper's "
            "weights, or repository of the Hugging Face hub (owner/name).",
        ),
    ] = "whisper-base",
    task: Annotated[
        str, typer.Option(metavar="TASK", help="transcribe, or translate (Whisper: into English).")
    ] = "transcribe",
    target_language: Annotated[
        str | None, typer.Option(metavar="CODE", help="Into what to translate, of a model of your own that can.")
    ] = None,
    no_punctuation: Annotated[
        bool, typer.Option("--no-punctuation", help="Write no punctuation, of a model of your own that takes prompts.")
    ] = False,
    language: Annotated[
        str | None,
        typer.Option(metavar="LANGUAGE", help="What is spoken: de or German; default: it is detected."),
    ] = None,
    initial_prompt: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="What the model is told came before: names, spelling, style."),
    ] = None,
    bias_phrases: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Phrases to favour, one a line, optionally a tab and its boost."),
    ] = None,
    decoding: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="joint, greedy, beam, ctc_greedy, ...; default: whisper for Whisper, segmental for a segmental model, "
            "joint for any other hybrid one.",
        ),
    ] = None,
    beam_size: Annotated[int | None, typer.Option(min=1, help="Hypotheses kept in a beam search.")] = None,
    sequential: Annotated[
        bool,
        typer.Option(
            "--sequential",
            help="Hear a long recording window after window, each told the text before it; default: cut it at "
            "silences and hear the windows side by side, which is faster.",
        ),
    ] = False,
    word_timestamps: Annotated[
        bool, typer.Option("--word-timestamps", help="Words with their times; the format ctm has them always.")
    ] = False,
    output_format: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FORMAT",
            help="txt (the default), srt, vtt, tsv, json, ctm, stm or all; for several: commas, or repeat it.",
        ),
    ] = None,
    output_dir: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder for a file each; default: the current one, but txt alone is printed."),
    ] = None,
    channel: Annotated[int | None, typer.Option(min=1, help="Channel to hear; default: the mean of all.")] = None,
    raw: Annotated[
        str | None,
        typer.Option(
            metavar="ENCODING[:RATE[:CHANNELS]]",
            help="Standard input has no header: s16le:16000:1, mulaw:8000, ...",
        ),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Windows searched at once; default: 16, as the decoding has it.")
    ] = None,
    threads: Threads = None,
    device: Device = "cpu",
    dtype: Dtype = "float32",
    jobs: Jobs = 1,
    executor: Executor = "local",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Write only errors to standard error.")] = False,
) -> None:
    """Write down what is said in recordings of any number and length.

    What is printed is a line for each segment as it is known, "[00:00.000 --> 00:04.320] text", after the name of its
    file and a tab where there are several. A hybrid CTC/attention model knows of no sentences: its recordings up to
    30 s are one line without times. Files are written whole or not at all, and named on standard error.

    Stopped or killed while it writes files, the same command goes on with the recordings that are left. With --jobs
    they are shared out to processes, on a Ray cluster those of its machines, which must all see the same folders.

    A recording that cannot be transcribed is named on standard error and the others go on; the exit code is then 1. It
    is 2 for options that make no sense, and 130 after Ctrl-C.
    """
    from s2s.cli.outputs import check_can_write, formats_of, output_paths
    from s2s.cli.transcribe_job import TranscribeSettings, transcribe_all
    from s2s.transcription.formats import NEEDS_WORDS
    from s2s.transcription.request import Request

    with usage():
        formats = formats_of(output_format or ["txt"])
        needs_words = not NEEDS_WORDS.isdisjoint(formats)
        words = word_timestamps or needs_words
        request = Request(language, task, initial_prompt, words, sequential, target_language, not no_punctuation)
        check_decoding(decoding)
        raw_as = raw_format(raw, files)
        inputs = collect(files)
        outputs = output_paths(inputs, output_dir, formats)
        check_can_write(outputs.values())
        check_executor(executor)
        printed = [each for each, output in outputs.items() if not output.paths]
        if jobs > 1 and (printed or Path("-") in files):
            raise UserError(f"--jobs {jobs}: is for files that are written; name --output-dir, and files to read")

    import torch

    from s2s.pretrained.names import find_model

    if threads:
        torch.set_num_threads(threads)
    check_device(device)
    bundle = find_model(model)
    phrases = None if bias_phrases is None else str(bias_phrases)
    config = _decoding(bundle, decoding, beam_size=beam_size, batch_size=batch_size, phrases=phrases)
    settings = TranscribeSettings(bundle, config, request, device, dtype, raw_as, channel, tuple(formats))
    if printed or None in {each.path for each in inputs}:
        failed = transcribe_all(settings, outputs, quiet)
    else:
        failed = _written(settings, outputs, output_dir or Path(), quiet, jobs, executor)
    if failed:
        raise typer.Exit(1)


def _written(
    settings: TranscribeSettings, outputs: Mapping[Input, Output], folder: Path, quiet: bool, jobs: int, executor: str
) -> bool:
    """Write every file but those that a call that was killed has written, by so many processes; whether some failed."""
    import shutil
    import uuid

    from s2s.cli.jobs import Journal, dealt, run_jobs, until_done
    from s2s.cli.transcribe_job import is_done, noted, transcribe_all, transcribe_share

    journal, mark = Journal(folder / f".journal-{settings.key()}"), uuid.uuid4().hex
    before = sum(is_done(record, mark) for _, record in journal.records())
    if before and not quiet:
        print(f"s2s: going on: {before} recordings were transcribed before", file=sys.stderr)

    def rest() -> list[Input]:
        done = {name for name, record in journal.records() if is_done(record, mark)}
        return [each for each in outputs if str(each) not in done]

    def spread(left: Sequence[Input]) -> Sequence[str | None]:
        if jobs == 1 and executor == "local":
            transcribe_all(settings, {each: outputs[each] for each in left}, quiet, noted(journal, mark))
            return [None]
        by_size = sorted(left, key=lambda each: -(each.path.stat().st_size if each.path and each.path.is_file() else 0))
        shares = [
            (settings, [(each, outputs[each]) for each in share], quiet, str(journal.folder.absolute()), mark)
            for share in dealt(by_size, jobs)
        ]
        return run_jobs(transcribe_share, shares, executor)

    until_done(rest, spread)
    failed = any(record["failed"] and record["mark"] == mark for _, record in journal.records())
    shutil.rmtree(journal.folder, ignore_errors=True)
    return failed


def _decoding(bundle: Path, name: str | None, **options: Any) -> DecodingConfig | None:
    """The decoding of that name, else the model's own, with the options that are given; None: nothing is asked for."""
    from dataclasses import replace

    from s2s.api import default_decoding
    from s2s.decoding.config import load_decoding_config

    given = {key: value for key, value in options.items() if value is not None}
    if name is None and not given:
        return None
    return replace(load_decoding_config([f"decoding={name or default_decoding(bundle)}"]), **given)
