"""Streams of a model that hears whole utterances: at each step it hears all of the segment anew."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor

from s2s.audio.silence import trailing_silence
from s2s.decoding.alignment import Word
from s2s.decoding.streaming.endpoint import EndpointConfig
from s2s.decoding.streaming.partial import Partial
from s2s.decoding.streaming.simultaneous import Progress, SimultaneousSearch
from s2s.decoding.streaming.words import word_starts
from s2s.errors import UserError
from s2s.models.memory import Memory
from s2s.streaming.event import StreamEvent
from s2s.streaming.session import Streamer
from s2s.tokenizers.base import Tokenizer

LEAST = 0.1  # seconds: less is not worth hearing


@dataclass(eq=False)
class WholeStream:
    """What is held of one stream: the samples of the segment at hand, and what was committed to of its text."""

    progress: Progress
    samples: Tensor = field(default_factory=lambda: torch.zeros(0))  # (n,) of the segment
    waiting: Tensor = field(default_factory=lambda: torch.zeros(0))  # (n,) that come after them
    first: int = 0  # samples before the segment
    language: str | None = None  # where it is known
    partial: Partial | None = None
    shown: str = ""
    ended: bool = False
    closed: bool = False
    events: list[StreamEvent] = field(default_factory=list)


class Ear(Protocol):
    """How a model hears whole segments."""

    sampling_rate: int
    seconds_per_frame: float
    max_seconds: float  # that it can hear at once

    @property
    def tokenizer(self) -> Tokenizer: ...

    def hear(self, streams: Sequence[WholeStream]) -> Memory:
        """The memory of the samples of each stream, with its prompt where the model wants one."""
        ...


class WholeStreamer(Streamer[WholeStream]):
    """Sessions of a model that hears `chunk` seconds more at a time, and commits to words as `search` allows.

    A segment ends as `endpoint` says, its silence being what is silent at the end of the samples. One that grows too
    long ends behind the last word that is committed to, and the rest is heard again with what follows. Silence is not
    heard at all.
    """

    def __init__(
        self, ear: Ear, search: SimultaneousSearch, chunk: float = 1.0, endpoint: EndpointConfig | None = None
    ) -> None:
        self.ear, self.search, self.chunk = ear, search, chunk
        self.endpoint = endpoint or EndpointConfig()
        self.max_length = min(self.endpoint.max_length or math.inf, ear.max_seconds - chunk)
        if chunk < LEAST or self.max_length < chunk:
            raise UserError(f"chunk={chunk:g}: expected {LEAST} to {ear.max_seconds / 2:g} seconds")
        self.sampling_rate = ear.sampling_rate
        self.step_samples = round(chunk * ear.sampling_rate)
        self.silence_kept = self.endpoint.start_silence or self.max_length
        self.begins = search.starts or word_starts(ear.tokenizer).tolist()

    def start(self) -> WholeStream:
        return WholeStream(self.search.start())

    def hear(self, stream: WholeStream, samples: Tensor) -> None:
        stream.waiting = torch.cat((stream.waiting, samples))

    def end(self, stream: WholeStream) -> None:
        stream.ended = True

    def is_ready(self, stream: WholeStream) -> bool:
        return len(stream.waiting) >= self.step_samples or (stream.ended and not stream.closed)

    def copied(self, stream: WholeStream) -> WholeStream:
        return replace(stream, progress=replace(stream.progress), events=list(stream.events))

    @torch.inference_mode()
    def advance(self, streams: list[WholeStream]) -> list[list[StreamEvent]]:
        silence = {}
        for stream in streams:
            stream.samples = torch.cat((stream.samples, stream.waiting[: self.step_samples]))
            stream.waiting = stream.waiting[self.step_samples :].clone()
            stream.closed = stream.ended and not len(stream.waiting)
            silence[id(stream)] = trailing_silence(stream.samples, self.sampling_rate)
        spoken = [s for s in streams if self._seconds(s) > max(silence[id(s)], LEAST)]
        over = [s.closed or self._is_over(s, silence[id(s)]) for s in spoken]
        if spoken:
            heard = [max(1, math.ceil(self._seconds(s) / self.ear.seconds_per_frame - 1e-6)) for s in spoken]
            partials = self.search.step(self.ear.hear(spoken), [s.progress for s in spoken], over, heard)
            for stream, partial, is_over in zip(spoken, partials, over, strict=True):
                stream.partial = partial
                self._tell(stream, partial, is_over)
        for stream in streams:
            if stream not in spoken and (stream.closed or self._seconds(stream) >= self.silence_kept):
                self._begin(stream, len(stream.samples))
        events = [stream.events for stream in streams]
        for stream in streams:
            stream.events = []
        return events

    def _seconds(self, stream: WholeStream) -> float:
        return len(stream.samples) / self.sampling_rate

    def _is_over(self, stream: WholeStream, silence: float) -> bool:
        said = stream.partial is not None and bool(stream.partial.hypothesis.tokens)
        limit = self.endpoint.end_silence if said else self.endpoint.start_silence
        return bool(limit) and silence >= limit  # type: ignore[operator]

    def _tell(self, stream: WholeStream, partial: Partial, is_over: bool) -> None:
        """What is new of a segment; where it has become too long, it ends behind what is committed to."""
        count, tokens, frames = partial.num_stable, partial.hypothesis.tokens, partial.hypothesis.frames
        if is_over:
            self._final(stream, partial, len(tokens), len(stream.samples))
        elif self._seconds(stream) >= self.max_length:
            cut = len(stream.samples)
            if 0 < count < len(tokens) and frames is not None:  # between two words
                middle = (frames[count - 1][1] + frames[count][0]) / 2 * self.ear.seconds_per_frame
                cut = min(cut, round(middle * self.sampling_rate))
            self._final(stream, partial, count or len(tokens), cut)
        else:
            event = self._event(stream, "partial", partial, len(tokens), count)
            if event.text != stream.shown:
                stream.shown = event.text
                stream.events.append(event)

    def _final(self, stream: WholeStream, partial: Partial, count: int, cut: int) -> None:
        event = self._event(stream, "final", partial, count, count)
        if event.text or stream.shown:
            stream.events.append(event)
        self._begin(stream, cut)

    def _begin(self, stream: WholeStream, cut: int) -> None:
        """A new segment, from the sample `cut` of the one at hand."""
        stream.first += cut
        stream.samples = stream.samples[cut:].clone()
        stream.progress, stream.partial, stream.shown = self.search.start(), None, ""

    def _event(self, stream: WholeStream, kind: str, partial: Partial, count: int, num_stable: int) -> StreamEvent:
        """The first `count` tokens of a hypothesis as an event."""
        decode, hypothesis = self.ear.tokenizer.decode, partial.hypothesis
        begin = stream.first / self.sampling_rate
        words = self._words(hypothesis.tokens[:count], hypothesis.frames, begin)
        return StreamEvent(
            kind=kind,
            text=decode(hypothesis.tokens[:count]).strip(),
            stable=decode(hypothesis.tokens[:num_stable]).strip(),
            start=words[0].start if words else begin,
            end=words[-1].end if words else begin + self._seconds(stream),
            heard=(stream.first + len(stream.samples) + len(stream.waiting)) / self.sampling_rate,
            words=words,
            score=hypothesis.score,
        )

    def _words(
        self, tokens: Sequence[int], frames: Sequence[tuple[int, int]] | None, begin: float
    ) -> list[Word] | None:
        """The words of tokens, from the frame of the first one to that past the last one."""
        if frames is None:
            return None
        spans: list[tuple[int, int]] = []
        for i, token in enumerate(tokens):
            if self.begins[token] or not spans:
                spans.append((i, i + 1))
            else:
                spans[-1] = (spans[-1][0], i + 1)
        words = []
        for first, last in spans:
            text = self.ear.tokenizer.decode(list(tokens[first:last])).strip()
            if text:
                start, end = (frame * self.ear.seconds_per_frame for frame in (frames[first][0], frames[last - 1][1]))
                words.append(Word(text, round(begin + start, 7), round(begin + end, 7)))
        return words
