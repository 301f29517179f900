"""`s2s stream`: text while it is spoken."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from s2s.cli.inputs import Input, collect, raw_format, recording
from s2s.cli.options import Device, Dtype, Threads, check_decoding, check_device, usage
from s2s.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from s2s.cli.interrupt import Interrupt
    from s2s.cli.live import EventLog, Live
    from s2s.cli.outputs import Output
    from s2s.streaming.listen import Listener, Told
    from s2s.transcription.recording import Recording
    from s2s.transcription.transcript import Segment

PIECE = 0.1  # seconds of audio that a session is fed at once


def stream(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="FILE|FOLDER|-",
            help="Recordings, heard one after another; `-`: a WAV on standard input, or raw samples with --raw; "
            "without any: the microphone, where the package sounddevice is installed.",
        ),
    ] = None,
    model: Annotated[
        str,
        typer.Option(metavar="MODEL", help="Bundle, or name of a model (whisper-tiny.en, whisper-base, ...)."),
    ] = "whisper-base",
    chunk: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="Speech that is heard at once: less is sooner, more is better; default: 0.64 for encoders that hear "
            "chunks, else 1.",
        ),
    ] = None,
    left: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", help="Speech before a chunk that an encoder which hears chunks sees; default: 5.12."
        ),
    ] = None,
    decoding: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Of a hybrid model: ctc_prefix (the default), ctc_greedy, rescoring (two passes), joint or monotonic; "
            "of a segmental one: segmental (the default), ctc_prefix or ctc_greedy.",
        ),
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="When to commit to words, of a model that hears everything anew: simul_whisper (the default for "
            "Whisper), local_agreement (for others), align_att, edatt, monotonic, hold_n or wait_k.",
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="endpoint.end_silence=0.5, decoding.beam_size=4, policy.frames=10, ...; repeat it.",
        ),
    ] = None,
    language: Annotated[
        str | None, typer.Option(metavar="LANGUAGE", help="What is spoken: de or German; of multilingual models.")
    ] = None,
    task: Annotated[
        str, typer.Option(metavar="TASK", help="transcribe, or translate (Whisper: into English).")
    ] = "transcribe",
    target_language: Annotated[
        str | None, typer.Option(metavar="CODE", help="Into what to translate, of a model of your own that can.")
    ] = None,
    simulate: Annotated[
        bool, typer.Option("--simulate", help="As fast as possible; default: at the speed of speech.")
    ] = False,
    events: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Every event as JSON, a line each, for `s2s score latency`."),
    ] = None,
    output_format: Annotated[
        list[str] | None,
        typer.Option(metavar="FORMAT", help="txt (the default), srt, vtt, tsv, json, ctm, stm or all."),
    ] = None,
    output_dir: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder for a file each; default: the current one, but txt alone is printed."),
    ] = None,
    channel: Annotated[int | None, typer.Option(min=1, help="Channel to hear; default: the mean of all.")] = None,
    raw: Annotated[
        str | None,
        typer.Option(metavar="ENCODING[:RATE[:CHANNELS]]", help="Standard input has no header: s16le:16000:1, ..."),
    ] = None,
    threads: Threads = None,
    device: Device = "cpu",
    dtype: Dtype = "float32",
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Show no text before it is final; write only errors besides.")
    ] = False,
) -> None:
    """Write down speech while it is spoken.

    On a terminal the text that may still change is shown below that which will not. What is printed is a line for each
    final segment, "[00:00.000 --> 00:04.320] text". Ctrl-C ends the recording: what was heard until then is printed and
    written, and the exit code is 130, or 0 for the microphone.

    A recording that cannot be read is named on standard error and the others go on; the exit code is then 1. It is 2
    for options that make no sense.
    """
    from s2s.cli.interrupt import Interrupt
    from s2s.cli.live import EventLog, Live
    from s2s.cli.microphone import microphone
    from s2s.cli.outputs import Output, check_can_write, formats_of, output_paths
    from s2s.streaming.listen import Listener
    from s2s.streaming.settings import StreamSettings

    with usage():
        formats = formats_of(output_format or ["txt"])
        check_decoding(decoding)
        inputs = collect(files) if files else [Input(None, Path("microphone"))]
        raw_as = raw_format(raw, files or [])
        outputs = output_paths(inputs, output_dir, formats)
        check_can_write([*outputs.values(), *([Output("", {"jsonl": events})] if events else [])])
        settings = StreamSettings.of(decoding, policy, overrides or [])

    import torch

    from s2s.api import load_stream

    if threads:
        torch.set_num_threads(threads)
    check_device(device)
    streamer = load_stream(model, settings, chunk, left, language, task, device, dtype, target_language)
    failed = stopped = False
    with EventLog(events) as log, Live(quiet) as live, Interrupt() as interrupt:
        for each in inputs:
            heard = _Heard(str(each) if files else "microphone", f"{each}\t" if len(inputs) > 1 else "", outputs[each])
            source = recording(each, raw_as, channel, PIECE) if files else microphone(PIECE)
            live_source = each.path is None
            pace = "live" if live_source else "simulated" if simulate else "real_time"
            listener = Listener(streamer.session(), pace)
            problem = None
            try:
                for piece in _pieces(source, streamer.sampling_rate, listener, interrupt):
                    heard.take(listener.feed(piece), log, live)
            except KeyboardInterrupt:
                stopped = True
            except UserError as error:
                problem = error
            heard.take(listener.finish(), log, live)
            log.end(heard.name, listener.heard, listener.wall)
            try:
                if problem is None or heard.segments:
                    heard.write(listener.heard)
                if problem is not None:
                    raise problem
            except UserError as error:
                print(f"s2s: error: {error}", file=sys.stderr)
                failed = True
            if stopped:
                break
    if stopped and files:
        raise typer.Exit(130)
    if failed:
        raise typer.Exit(1)


def _pieces(source: Recording, rate: int, listener: Listener, interrupt: Interrupt) -> Iterator[Tensor]:
    """The pieces of a recording, each when it is time for it; Ctrl-C ends the waiting for one."""
    pieces = iter(source.blocks(rate))
    while True:
        with interrupt.allowed():
            piece = next(pieces, None)
            if piece is None:
                return
            listener.wait(len(piece) / rate)
        yield piece


class _Heard:
    """What was heard of one recording."""

    def __init__(self, name: str, prefix: str, output: Output) -> None:
        self.name, self.prefix, self.output = name, prefix, output
        self.segments: list[Segment] = []

    def take(self, told: Iterable[Told], log: EventLog, live: Live) -> None:
        """Tell of new events, and keep what is final."""
        from s2s.transcription.transcript import Segment

        for each in told:
            log.tell(self.name, each)
            event = each.event
            if event.kind != "final":
                live.show(event)
            elif event.text:
                segment = Segment(event.start, event.end, event.text, event.words, event.score)
                self.segments.append(segment)
                if not self.output.paths:
                    live.print(segment, self.prefix)

    def write(self, seconds: float) -> None:
        """Write the files that were asked for."""
        from s2s.cli.outputs import write
        from s2s.transcription.transcript import Transcript

        if not self.output.paths:
            return
        words = [word for segment in self.segments for word in segment.words or []]
        text = " ".join(segment.text for segment in self.segments)
        score = sum(segment.score for segment in self.segments)
        write(Transcript(text, score, seconds, words=words or None, segments=self.segments), self.output)
