"""What `s2s transcribe` does with some of the recordings, in whichever process."""

from __future__ import annotations

import hashlib
import json
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from s2s.cli.bar import Bar
from s2s.cli.inputs import Input, recording
from s2s.cli.jobs import Journal
from s2s.cli.outputs import Output, print_lines, print_segments, write
from s2s.errors import UserError

if TYPE_CHECKING:
    from s2s.audio.pipe import RawFormat
    from s2s.decoding.config import DecodingConfig
    from s2s.transcription.request import Request
    from s2s.transcription.transcript import Transcript


@dataclass(frozen=True)
class TranscribeSettings:
    """What is asked for of every recording."""

    bundle: Path
    decoding: DecodingConfig | None
    request: Request
    device: str
    dtype: str
    raw: RawFormat | None
    channel: int | None
    formats: tuple[str, ...]

    def key(self) -> str:
        """Of what decides the result."""
        what = {
            "bundle": str(self.bundle),
            "decoding": None if self.decoding is None else asdict(self.decoding),
            "request": asdict(self.request),
            "dtype": self.dtype,
            "channel": self.channel,
            "formats": self.formats,
        }
        return hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()[:16]


Done = Callable[[Input, bool], None]  # a recording, and whether it failed


def transcribe_all(
    settings: TranscribeSettings,
    outputs: Mapping[Input, Output],
    quiet: bool,
    done: Done = lambda each, failed: None,
    bar_shown: bool = True,
) -> bool:
    """Write down the recordings of `outputs`, in that order; whether one of them failed."""
    from s2s.api import load
    from s2s.transcription.hybrid import HybridTranscriber
    from s2s.transcription.subtitles import segments_of

    transcriber = load(settings.bundle, settings.decoding, settings.device, settings.dtype)
    inputs = list(outputs)
    recordings = (recording(each, settings.raw, settings.channel) for each in inputs)
    waiting, some_failed = deque(inputs), False
    printed = 0  # lines of the first that waits
    with Bar(inputs, quiet or not bar_shown) as bar:
        for event in transcriber.events(recordings, settings.request, bar.advance):
            each = waiting[0]
            prefix, output, failed = f"{each}\t" if len(inputs) > 1 else "", outputs[each], False
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
                    failed = some_failed = True
            done(each, failed)
            waiting.popleft()
            printed = 0
    return some_failed


def transcribe_share(share: tuple[TranscribeSettings, Sequence[tuple[Input, Output]], bool, str, str]) -> None:
    """A share, in a process of its own: settings, recordings, whether quiet, folder and mark of the journal."""
    settings, some, quiet, folder, mark = share
    transcribe_all(settings, dict(some), quiet, noted(Journal(Path(folder)), mark), bar_shown=False)


def noted(journal: Journal, mark: str) -> Done:
    """What writes into a journal; `mark` is of one call of the command."""

    def done(each: Input, failed: bool) -> None:
        journal.write(str(each), {"failed": failed, "mark": mark})

    return done


def is_done(record: Mapping[str, object], mark: str) -> bool:
    """Whether a recording need not be heard: what has failed is tried again by the next call."""
    return not record["failed"] or record["mark"] == mark


def _note(each: Input, transcript: Transcript, output: Output) -> None:
    if not transcript.text:
        print(f"s2s: {each}: no speech found", file=sys.stderr)
    for path in output.paths.values():
        print(path, file=sys.stderr)
