"""Recordings of any number and length to transcripts, by any model that can hear a window of audio."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile

from torch import Tensor

from s2s.audio.voice_activity import VoiceActivity, best_detector
from s2s.audio.windows import Window, WindowConfig, cut, whole
from s2s.decoding.hypothesis import UtteranceError
from s2s.errors import UserError
from s2s.transcription.recording import Audio, Recording, recordings
from s2s.transcription.request import Request
from s2s.transcription.transcript import Segment, Transcript

FEW = 4  # windows that are heard at first, so that something is known soon; then twice as many, and so on
OnSeconds = Callable[[float], None]
# More segments of the recording whose transcript comes next, or that transcript, or why there is none.
Event = list[Segment] | Transcript | UserError


@dataclass(eq=False)
class _Pending:
    """A recording under way: its windows' transcripts as far as they are known, and what went wrong with it."""

    name: str
    language: str | None
    seconds: float = 0.0
    unheard: float = 0.0  # seconds that have been read, and not told of
    parts: list[Transcript | None] = field(default_factory=list)
    told: int = 0  # of the parts
    read: bool = False
    error: UserError | None = None

    @property
    def finished(self) -> bool:
        return self.read and (self.error is not None or None not in self.parts)

    def news(self) -> list[Segment]:
        """The segments that nobody was told of yet, up to the first window that is not known."""
        known = list(takewhile(lambda part: part is not None, self.parts[self.told :]))
        self.told += len(known)
        return [segment for part in known if part is not None for segment in part.segments]

    def result(self) -> Transcript | UserError:
        return self.error or stitch([part for part in self.parts if part], self.seconds, self.language)


@dataclass(frozen=True, eq=False)
class _Turn:
    """A window that waits to be heard, and whose it is."""

    pending: _Pending
    number: int
    window: Window


class Transcriber(ABC):
    """A model with a search: recordings in, transcripts out.

    A recording longer than `max_window` seconds is cut at silences into windows, which are heard `at_once` together
    with those of other recordings. Memory holds those windows, not the recordings.
    """

    max_window: float = 30.0
    at_once: int = 16

    @property
    @abstractmethod
    def sampling_rate(self) -> int:
        """Samples a second of the arrays that `transcribe` takes; files of any rate are resampled to it."""

    @abstractmethod
    def hear(self, windows: Sequence[Window], request: Request, languages: Sequence[str | None]) -> list[Transcript]:
        """The transcript of each window, times from the start of its recording; None: detect the language."""

    def check(self, request: Request) -> Request:
        """The request in the model's own terms; UserError for what the model cannot do."""
        return request

    def transcribe(
        self,
        audio: Audio | Recording | Sequence[Audio | Recording],
        *,
        language: str | None = None,
        task: str = "transcribe",
        initial_prompt: str | None = None,
        word_timestamps: bool = False,
        sequential: bool = False,
        target_language: str | None = None,
        punctuation: bool = True,
    ) -> Iterator[Transcript]:
        """The transcript of each recording, in order, as soon as it is known; the options are those of `Request`.

        A recording is a path or samples (n,) in [-1,1] at `sampling_rate`. Raises UserError for one that cannot be
        read, is shorter than one frame of features, or asks for what the model cannot do.
        """
        request = Request(language, task, initial_prompt, word_timestamps, sequential, target_language, punctuation)
        for event in self.events(recordings(audio), request):
            if isinstance(event, UserError):
                raise event
            if isinstance(event, Transcript):
                yield event

    def segments(self, audio: Audio | Recording, request: Request | None = None) -> Iterator[Segment]:
        """The segments of one recording, in order, each as soon as it is known; raises what `transcribe` raises."""
        told = 0
        for event in self.events([Recording.of(audio)], request or Request()):
            if isinstance(event, UserError):
                raise event
            new = event if isinstance(event, list) else event.segments[told:]
            told += len(new)
            yield from new

    def events(
        self, sources: Iterable[Recording], request: Request, on_seconds: OnSeconds = lambda seconds: None
    ) -> Iterator[Event]:
        """As `transcribe`, with a UserError in place of what cannot be transcribed, so that the others go on.

        Before the transcript of a long recording come lists of its first segments, as they are known. `on_seconds` is
        told of every stretch of audio that is done with.
        """
        request = self.check(request)
        queue: deque[_Pending] = deque()
        turns: list[_Turn] = []
        enough = min(FEW, self.at_once)
        for source in sources:
            pending = _Pending(source.name, request.language)
            queue.append(pending)
            try:
                for window in self._windows(source.name, self._counted(source, pending)):
                    turns.append(_Turn(pending, len(pending.parts), window))
                    pending.parts.append(None)
                    if len(turns) >= enough:
                        enough = min(2 * enough, self.at_once)
                        self._take(turns, request)
                        _tell(queue, on_seconds)
                        yield from self._news(queue, on_seconds)
            except UserError as error:
                pending.error = error  # rather than what was said of its windows so far: that depends on the others
            if not pending.seconds:
                empty = f"{source.name}: 0 s of audio are shorter than one frame; nothing to hear"
                pending.error = pending.error or UserError(empty)
            pending.read = True
            yield from self._news(queue, on_seconds)
        self._take(turns, request)
        yield from self._news(queue, on_seconds)

    def _news(self, queue: deque[_Pending], on_seconds: OnSeconds) -> Iterator[Event]:
        while queue and queue[0].finished:
            _tell([queue[0]], on_seconds)
            yield queue.popleft().result()
        if queue and queue[0].seconds > self.max_window and (segments := queue[0].news()):
            yield segments

    def _counted(self, source: Recording, pending: _Pending) -> Iterator[Tensor]:
        for block in source.blocks(self.sampling_rate):
            pending.seconds += len(block) / self.sampling_rate
            pending.unheard += len(block) / self.sampling_rate
            yield block

    def _windows(self, name: str, blocks: Iterator[Tensor]) -> Iterator[Window]:
        """A short recording whole, if there may be speech in it; the stretches with speech of a long one."""
        detector = best_detector(self.sampling_rate)
        window, rest = whole(blocks, self.sampling_rate, self.max_window)
        if window is None:
            yield from cut(rest, self.sampling_rate, detector, WindowConfig(max_window=self.max_window))
            return
        try:
            is_heard = self.has_speech(window, detector)
        except UserError as error:
            raise UserError(f"{name}: {error}") from error
        if is_heard:
            yield window

    def has_speech(self, window: Window, detector: VoiceActivity) -> bool:
        """Whether a recording of one window is to be heard."""
        return True

    def _take(self, turns: list[_Turn], request: Request) -> None:
        """Hear what waits, and note it where it belongs."""
        waiting = [turn for turn in turns if turn.pending.error is None]
        turns.clear()
        # The language of a recording is that of its first window: further ones wait for it.
        while waiting:
            first = {id(turn.pending): turn for turn in reversed(waiting)} if request.language is None else {}
            now = [t for t in waiting if t.pending.language or first.get(id(t.pending), t) is t]
            waiting = [turn for turn in waiting if turn not in now]
            self._hear(now, request)
            waiting = [turn for turn in waiting if turn.pending.error is None]

    def _hear(self, turns: list[_Turn], request: Request) -> None:
        try:
            found = self.hear([t.window for t in turns], request, [t.pending.language for t in turns])
        except UserError as error:
            if len(turns) == 1:
                problem = error.problem if isinstance(error, UtteranceError) else str(error)
                pending = turns[0].pending
                pending.error = pending.error or UserError(f"{pending.name}: {problem}")
                return
            for turn in turns:  # one of them is to blame: the others go on
                self._hear([turn], request)
            return
        for turn, transcript in zip(turns, found, strict=True):
            turn.pending.parts[turn.number] = transcript
            turn.pending.language = turn.pending.language or transcript.language or ""


def _tell(queue: Iterable[_Pending], on_seconds: OnSeconds) -> None:
    for pending in queue:
        on_seconds(pending.unheard)
        pending.unheard = 0.0


def stitch(parts: Sequence[Transcript], seconds: float, language: str | None = None) -> Transcript:
    """The transcript of a recording from those of its windows, in order; `seconds` is the recording's length."""
    if len(parts) == 1:
        return replace(parts[0], seconds=seconds)
    words = [word for part in parts for word in part.words or []]
    scores: dict[str, float] = {}
    for part in parts:
        for name, score in part.scores.items():
            scores[name] = scores.get(name, 0.0) + score
    return Transcript(
        text=" ".join(part.text for part in parts if part.text),
        score=sum(part.score for part in parts),
        seconds=seconds,
        scores=scores,
        words=words if any(part.words is not None for part in parts) else None,
        segments=[segment for part in parts for segment in part.segments],
        language=next((part.language for part in parts if part.language), language or None),
    )
