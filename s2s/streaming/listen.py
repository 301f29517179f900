"""A recording fed to a session piece by piece, and when each of its events was known."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import NamedTuple

from torch import Tensor

from s2s.streaming.event import StreamEvent
from s2s.streaming.session import StreamSession


class Told(NamedTuple):
    """An event, and at which time of the wall clock, in seconds since the first sample was there."""

    event: StreamEvent
    wall: float


class Listener:
    """Feeds a session, and keeps the time.

    "live": pieces come when they are spoken, and the clock is that of the machine. "real_time": so does a file's,
    `wait` waits for them. "simulated": nothing waits; the clock is the one there would be if the pieces came when they
    are spoken, on this machine: a piece is begun when it is there and those before it are done with.
    """

    def __init__(self, session: StreamSession, pace: str = "simulated") -> None:
        self.session, self.pace = session, pace
        self._samples = 0
        self._begun: float | None = None
        self._busy = 0.0  # until when, of the simulated clock

    def wait(self, seconds: float) -> None:
        """Wait until a piece that lasts so long would have been spoken."""
        if self.pace == "real_time":
            time.sleep(max(0.0, self._started() + self.heard + seconds - time.monotonic()))

    def feed(self, samples: Tensor) -> Iterator[Told]:
        """What is new when the session has heard these samples (n,) too."""
        self._started()
        self._samples += len(samples)
        yield from self._timed(samples)

    def finish(self) -> Iterator[Told]:
        """What is new when no more samples are to come."""
        yield from self._timed(None)

    @property
    def heard(self) -> float:
        """Seconds of audio so far."""
        return self._samples / self.session.streamer.sampling_rate

    @property
    def wall(self) -> float:
        """The time of the wall clock now."""
        return self._busy if self.pace == "simulated" else time.monotonic() - self._started()

    def _timed(self, samples: Tensor | None) -> Iterator[Told]:
        begun = time.monotonic()
        events = self.session.finish() if samples is None else self.session.feed(samples)
        self._busy = max(self._busy, self.heard) + time.monotonic() - begun
        wall = self.wall
        for event in events:
            yield Told(event, wall)

    def _started(self) -> float:
        if self._begun is None:
            self._begun = time.monotonic()
        return self._begun
