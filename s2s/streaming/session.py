"""Sessions: each is fed the samples of one stream, and those that are ready at once are heard together."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from s2s.audio.resample import ResampledStream
from s2s.errors import UserError
from s2s.streaming.event import StreamEvent

Stream = TypeVar("Stream")


class Streamer(ABC, Generic[Stream]):
    """A model with a streaming search, shared by any number of sessions."""

    sampling_rate: int

    @abstractmethod
    def start(self) -> Stream:
        """A stream of which nothing was heard."""

    @abstractmethod
    def hear(self, stream: Stream, samples: Tensor) -> None:
        """More samples (n,) of a stream, at `sampling_rate`; costs little."""

    @abstractmethod
    def end(self, stream: Stream) -> None:
        """No more samples are to come."""

    @abstractmethod
    def is_ready(self, stream: Stream) -> bool:
        """Whether there is something to be done for a stream."""

    @abstractmethod
    def advance(self, streams: list[Stream]) -> list[list[StreamEvent]]:
        """One step of each of several streams that are ready, all at once -> what is new of each."""

    @abstractmethod
    def copied(self, stream: Stream) -> Stream:
        """A stream to go back to, which `advance` of this one leaves as it is."""

    def session(self, sampling_rate: int | None = None) -> StreamSession:
        """A new session for samples at that many hertz (default: the model's own)."""
        return StreamSession(self, sampling_rate)

    def process(self, sessions: Iterable[StreamSession]) -> dict[StreamSession, list[StreamEvent]]:
        """One step of every session that is ready, together; the events of each of these. The others wait for nobody.

        Until it returns nothing, there is something to do. Where it raises anything, the sessions are as before.
        """
        ready = [session for session in sessions if session.is_ready]
        if not ready:
            return {}
        before = [self.copied(session.stream) for session in ready]
        try:
            return dict(zip(ready, self.advance([session.stream for session in ready]), strict=True))
        except BaseException:
            for session, stream in zip(ready, before, strict=True):
                session.stream = stream
            raise


class StreamSession:
    """One stream of speech: samples in, events out; what it holds is bounded, however long the speech.

    `feed` does all there is to do for this session. A server with many calls `push` for what has come and
    `Streamer.process` for all of them.
    """

    def __init__(self, streamer: Streamer, sampling_rate: int | None = None) -> None:
        self.streamer = streamer
        self.stream = streamer.start()
        self.closed = False
        self._resampled = ResampledStream(sampling_rate or streamer.sampling_rate, streamer.sampling_rate)

    @property
    def is_ready(self) -> bool:
        """Whether there is something to be done for it."""
        return self.streamer.is_ready(self.stream)

    def push(self, samples: Tensor | np.ndarray) -> None:
        """More samples (n,), floating point in [-1, 1]; UserError for others, and after the end."""
        if self.closed:
            raise UserError("the session has ended; begin a new one")
        samples = torch.as_tensor(samples)
        if samples.dim() != 1 or not samples.is_floating_point():
            raise UserError(
                f"samples of the shape {tuple(samples.shape)} and type {samples.dtype}; expected one channel (n,) of "
                "floating point in [-1, 1]"
            )
        if not bool(samples.isfinite().all()):
            raise UserError("samples that are not finite; expected floating point in [-1, 1]")
        self.streamer.hear(self.stream, self._resampled.feed(samples.float()))

    def close(self) -> None:
        """No more samples are to come."""
        if not self.closed:
            self.streamer.hear(self.stream, self._resampled.finish())
            self.streamer.end(self.stream)
            self.closed = True

    def feed(self, samples: Tensor | np.ndarray) -> list[StreamEvent]:
        """More samples, as `push` takes them -> what is new."""
        self.push(samples)
        return self._all()

    def finish(self) -> list[StreamEvent]:
        """The last events, now that no more samples are to come."""
        self.close()
        return self._all()

    def _all(self) -> list[StreamEvent]:
        events = []
        while self.is_ready:
            events += self.streamer.process([self])[self]
        return events
