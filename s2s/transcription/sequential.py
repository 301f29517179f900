"""Whisper's own way through long audio: each window begins where the text of the one before ended, and is told it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from s2s.audio.voice_activity import best_detector
from s2s.audio.windows import Window
from s2s.decoding.alignment import Word
from s2s.errors import UserError
from s2s.transcription.hearing import Hearing
from s2s.transcription.recording import Recording
from s2s.transcription.request import Request
from s2s.transcription.sentences import shared_out
from s2s.transcription.transcript import Segment, Transcript

if TYPE_CHECKING:
    from s2s.transcription.transcriber import Event, OnSeconds
    from s2s.transcription.whisper import WhisperTranscriber

SECONDS_PER_TIME = 0.02
STEP = 1.0  # seconds a window is moved on at least, so that there is an end
SURE = 0.5  # text sampled at a higher temperature is not what the next window should go on from


def sequentially(
    transcriber: WhisperTranscriber, sources: Iterable[Recording], request: Request, on_seconds: OnSeconds
) -> Iterator[Event]:
    """As `Transcriber.events`; as many recordings side by side as the search takes at once, a window of each.

    As in openai/whisper's `transcribe`, but that windows without any sound of speech are passed over.
    """
    waiting = iter(sources)
    active: deque[_Reader] = deque()
    while True:
        while len(active) < transcriber.decoding.batch_size:
            source = next(waiting, None)
            if source is None:
                break
            active.append(_Reader(transcriber, source, request, on_seconds))
        if not active:
            return
        hearings = [(reader, hearing) for reader in active if (hearing := reader.next()) is not None]
        transcriber.listen([hearing for _, hearing in hearings], request.task)
        spoken = [hearing for _, hearing in hearings if request.word_timestamps and transcriber.is_spoken(hearing)]
        words = dict(zip(map(id, spoken), transcriber.words(spoken, request), strict=True))
        for reader, hearing in hearings:
            reader.take(hearing, words.get(id(hearing)))
        while active and active[0].result is not None:
            finished = active.popleft().result
            assert finished is not None
            yield finished
        if active and (segments := active[0].news()):
            yield segments


@dataclass
class _Reader:
    """A recording, as far as it has been heard."""

    transcriber: WhisperTranscriber
    source: Recording
    request: Request
    on_seconds: OnSeconds
    start: float = 0.0  # of the next window
    score: float = 0.0
    language: str | None = None
    segments: list[Segment] = field(default_factory=list)
    told: int = 0  # of the segments
    context: list[int] = field(default_factory=list)
    result: Transcript | UserError | None = None

    def __post_init__(self) -> None:
        self.rate = self.transcriber.sampling_rate
        self.blocks: Iterator[Tensor] = self.source.blocks(self.rate)
        self.samples = torch.zeros(0)  # from `start` on
        self.language = self.request.language
        prompt = self.request.initial_prompt
        self.context = self.transcriber.tokenizer.encode(f" {prompt.strip()}") if prompt else []

    def next(self) -> Hearing | None:
        """The next window that may hold speech; None, and there is a result, where there is none."""
        while self.result is None:
            try:
                self._fill()
            except UserError as error:
                self.result = error
                return None
            if len(self.samples) < STEP / 2 * self.rate and (self.start > 0 or not len(self.samples)):
                seconds = self.start + len(self.samples) / self.rate
                text = "".join(segment.text for segment in self.segments)
                self.result = _finished(self.segments, text, self.score, seconds, self.language)
                return None
            samples = self.samples[: round(self.transcriber.max_window * self.rate)]
            window = Window(self.start, samples, [(self.start, self.start + len(samples) / self.rate)])
            try:
                if self.transcriber.has_speech(window, best_detector(self.rate)):
                    return Hearing(window, self.language, timestamps=True, previous=self.context)
            except UserError as error:
                self.result = UserError(f"{self.source.name}: {error}")
                return None
            self._advance(len(samples) / self.rate)
        return None

    def take(self, hearing: Hearing, words: list[Word] | None) -> None:
        """Note what was heard, and go on where it ended."""
        transcriber, tokenizer = self.transcriber, self.transcriber.tokenizer
        self.language = self.language or hearing.language
        seconds = len(hearing.window.samples) / self.rate
        if not transcriber.is_spoken(hearing):
            self._advance(seconds)
            return
        stretches, heard = timed_stretches(hearing.best.tokens, tokenizer.timestamp_begin, seconds)
        texts = [tokenizer.decode(stretch.tokens) for stretch in stretches]
        shares: Sequence[list[Word] | None] = [None] * len(texts) if words is None else shared_out(texts, words)
        for stretch, text, own in zip(stretches, texts, shares, strict=True):
            if text.strip():
                start, end = (self.start + time for time in (stretch.start, stretch.end))
                self.segments.append(transcriber.segment(hearing, text, start, end, own))
        self.score += hearing.best.score
        told = [i for stretch in stretches for i in stretch.tokens]
        self.context = self.context + told if hearing.temperature <= SURE else []
        self._advance(heard if heard >= STEP else seconds)

    def news(self) -> list[Segment]:
        """The segments that nobody was told of yet."""
        new = [_stripped(segment) for segment in self.segments[self.told :]]
        self.told += len(new)
        return new

    def _fill(self) -> None:
        """Read on until a whole window is there, or the end."""
        wanted = round(self.transcriber.max_window * self.rate)
        while len(self.samples) < wanted:
            block = next(self.blocks, None)
            if block is None:
                return
            self.samples = torch.cat((self.samples, block))

    def _advance(self, seconds: float) -> None:
        count = min(len(self.samples), round(seconds * self.rate))
        self.samples = self.samples[count:].clone()
        self.start += count / self.rate
        self.on_seconds(count / self.rate)


@dataclass(frozen=True)
class Stretch:
    """Text between two time tokens, which are among its tokens; seconds from the start of the window."""

    start: float
    end: float
    tokens: list[int]


def timed_stretches(tokens: Sequence[int], timestamp_begin: int, seconds: float) -> tuple[list[Stretch], float]:
    """The stretches of a window of so many seconds, and how much of it they account for.

    Text after the last pair of times was not finished: it is left for the next window, unless there is no such pair or
    the tokens end with a single time, after which nothing was heard.
    """
    is_time = [token >= timestamp_begin for token in tokens]

    def time(i: int) -> float:
        return min(seconds, (tokens[i] - timestamp_begin) * SECONDS_PER_TIME)

    pairs = [i for i in range(1, len(tokens)) if is_time[i - 1] and is_time[i]]
    to_the_end = len(tokens) > 1 and is_time[-1] and not is_time[-2]
    if not pairs:
        times = [i for i, flag in enumerate(is_time) if flag]
        start, last = (time(times[0]), time(times[-1])) if times else (0.0, 0.0)
        end = last if last > start else seconds
        return [Stretch(start, end, list(tokens))], seconds
    stretches = []
    first = 0
    for stop in pairs + ([len(tokens)] if to_the_end else []):
        stretches.append(Stretch(time(first) if is_time[first] else 0.0, time(stop - 1), list(tokens[first:stop])))
        first = stop
    return stretches, seconds if to_the_end else time(pairs[-1] - 1)


def _finished(segments: list[Segment], text: str, score: float, seconds: float, language: str | None) -> Transcript:
    words = [word for segment in segments for word in segment.words or []]
    timed = any(segment.words is not None for segment in segments)
    return Transcript(
        text=text.strip(),
        score=score,
        seconds=seconds,
        words=words if timed else None,
        segments=list(map(_stripped, segments)),
        language=language,
    )


def _stripped(segment: Segment) -> Segment:
    return replace(segment, text=segment.text.strip())
