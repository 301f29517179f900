"""`s2s transcribe`: text of recordings, printed or in files."""

from __future__ import annotations

import sys
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from s2s.cli.bar import Bar
from s2s.cli.inputs import Input, collect, raw_format, recording
from s2s.cli.options import Device, Dtype, Threads, check_decoding, check_device, usage
from s2s.errors import UserError

if TYPE_CHECKING:
    from s2s.cli.outputs import Output
    from s2s.decoding.config import DecodingConfig
    from s2s.transcription.transcript import Transcript


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
    task: Annotated[str, typer.Option(metavar="TASK", help="transcribe, or translate into English.")] = "transcribe",
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
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Write only errors to standard error.")] = False,
) -> None:
    """Write down what is said in recordings of any number and length.

    What is printed is a line for each segment as it is known, "[00:00.000 --> 00:04.320] text", after the name of its
    file and a tab where there are several. A hybrid CTC/attention model knows of no sentences: its recordings up to
    30 s are one line without times. Files are written whole or not at all, and named on standard error.

    A recording that cannot be transcribed is named on standard error and the others go on; the exit code is then 1. It
    is 2 for options that make no sense, and 130 after Ctrl-C.
    """
    from s2s.cli.outputs import check_can_write, formats_of, output_paths, print_lines, print_segments, write
    from s2s.transcription.formats import NEEDS_WORDS
    from s2s.transcription.request import Request
    from s2s.transcription.subtitles import segments_of

    with usage():
        formats = formats_of(output_format or ["txt"])
        needs_words = not NEEDS_WORDS.isdisjoint(formats)
        request = Request(language, task, initial_prompt, word_timestamps or needs_words, sequential)
        check_decoding(decoding)
        raw_as = raw_format(raw, files)
        inputs = collect(files)
        outputs = output_paths(inputs, output_dir, formats)
        check_can_write(outputs.values())

    import torch

    from s2s.api import load
    from s2s.pretrained.names import find_model
    from s2s.transcription.hybrid import HybridTranscriber

    if threads:
        torch.set_num_threads(threads)
    check_device(device)
    bundle = find_model(model)
    phrases = None if bias_phrases is None else str(bias_phrases)
    config = _decoding(bundle, decoding, beam_size=beam_size, batch_size=batch_size, phrases=phrases)
    transcriber = load(bundle, config, device, dtype)
    recordings = (recording(each, raw_as, channel) for each in inputs)
    waiting, failed = deque(inputs), False
    printed = 0  # lines of the first that waits
    with Bar(inputs, quiet) as bar:
        for event in transcriber.events(recordings, request, bar.advance):
            each = waiting[0]
            prefix, output = f"{each}\t" if len(inputs) > 1 else "", outputs[each]
            with bar.aside():
                if isinstance(event, list):
                    printed += 0 if output.paths else print_segments(event, prefix, timed=True)
                    continue
                try:
                    if isinstance(event, UserError):
                        raise event
                    timed = event.seconds > transcriber.max_window or not isinstance(transcriber, HybridTranscriber)
                    if output.paths:
                        write(event, output)
                    elif not print_segments(segments_of(event)[printed:], prefix, timed) and not printed:
                        print_lines([prefix])
                    if not quiet:
                        _note(each, event, output)
                except UserError as error:
                    print(f"s2s: error: {error}", file=sys.stderr)
                    failed = True
            waiting.popleft()
            printed = 0
    if failed:
        raise typer.Exit(1)


def _decoding(bundle: Path, name: str | None, **options: Any) -> DecodingConfig | None:
    """The decoding of that name, else the model's own, with the options that are given; None: nothing is asked for."""
    from dataclasses import replace

    from s2s.api import default_decoding
    from s2s.decoding.config import load_decoding_config

    given = {key: value for key, value in options.items() if value is not None}
    if name is None and not given:
        return None
    return replace(load_decoding_config([f"decoding={name or default_decoding(bundle)}"]), **given)


def _note(each: Input, transcript: Transcript, output: Output) -> None:
    if not transcript.text:
        print(f"s2s: {each}: no speech found", file=sys.stderr)
    for path in output.paths.values():
        print(path, file=sys.stderr)
