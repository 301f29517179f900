"""Live sessions of many clients, heard by one model in common steps."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from s2s.audio.pcm import ENCODINGS
from s2s.errors import UserError
from s2s.server.files import PATIENCE
from s2s.server.metrics import Metrics
from s2s.server.settings import ServerSettings
from s2s.streaming.event import StreamEvent
from s2s.streaming.session import Streamer, StreamSession

log = logging.getLogger("s2s.server")
PIECE = 0.1  # seconds that a session is fed at once


class Told(NamedTuple):
    """An event, and how many seconds after the audio that led to it it was there."""

    event: StreamEvent
    latency: float


class End(NamedTuple):
    """A session is over: all that was to be said of it was, of so many seconds of audio, or it failed."""

    heard: float
    error: Exception | None = None


class LiveSession:
    """One client's stream: `push` and `end` from any thread; `tell` is called from the model's."""

    def __init__(self, hall: LiveModel, session: StreamSession, rate: int, tell: Callable[[Told | End], None]) -> None:
        self.hall, self.session, self.rate, self.tell = hall, session, rate, tell
        self.pieces: deque[tuple[Tensor | None, float]] = deque()  # None: the end
        self.moment = time.monotonic()  # when the last piece that was heard had come
        self.num_pushed = self.num_heard = self.num_counted = 0  # samples that came, were heard, are in the metrics

    @property
    def behind(self) -> float:
        """Seconds of audio that came and were not heard."""
        return (self.num_pushed - self.num_heard) / self.rate

    @property
    def is_due(self) -> bool:
        """Whether there is something to do for it."""
        return bool(self.pieces) or self.session.is_ready

    def push(self, samples: Tensor) -> None:
        """More samples (n,) in [-1, 1]."""
        now = time.monotonic()
        self.hall.change(lambda: self._add(samples, now))

    def _add(self, samples: Tensor, now: float) -> None:
        self.num_pushed += len(samples)
        self.pieces.extend((piece, now) for piece in samples.split(round(PIECE * self.rate)) if len(piece))

    def end(self) -> None:
        """No more are to come; what is to be said is told, and then `End`."""
        self.hall.change(lambda: self.pieces.append((None, time.monotonic())))

    def drop(self) -> None:
        """Nobody listens any more."""
        self.hall.drop(self)

    def listen(self) -> None:
        """Take pieces until there is something to do for the model."""
        while self.pieces and not self.session.is_ready:
            piece, self.moment = self.pieces.popleft()
            if piece is None:
                self.session.close()
            else:
                self.session.push(piece)
                self.num_heard += len(piece)


class LiveModel:
    """Hears the sessions of one model in a thread of its own, those that are ready side by side.

    Each step is one chunk of each session, in turn, so that nobody is held up by a session with much to say. What fails
    in a step is tried again session by session: the others' text is what it would have been.
    """

    def __init__(self, name: str, settings: ServerSettings, metrics: Metrics) -> None:
        self.name, self.metrics, self.most = name, metrics, settings.batch_sessions
        self._sessions: dict[LiveSession, None] = {}
        self._changed = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name=f"sessions of {name}", daemon=True)
        self._thread.start()

    def open(self, streamer: Streamer, rate: int, tell: Callable[[Told | End], None]) -> LiveSession:
        """A new session for samples at that many hertz."""
        live = LiveSession(self, streamer.session(rate), rate, tell)
        self.change(lambda: self._sessions.setdefault(live))
        return live

    def change(self, change: Callable[[], object]) -> None:
        """Do something that the thread has to know of."""
        with self._changed:
            change()
            self._changed.notify()

    def drop(self, live: LiveSession) -> None:
        """Forget a session."""
        with self._changed:
            self._sessions.pop(live, None)
            live.pieces.clear()

    def stop(self) -> None:
        """End the thread, when it is done with the step at hand, or, where that takes long, with the process."""
        self.change(lambda: setattr(self, "_stopped", True))
        self._thread.join(PATIENCE)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopped or any(live.is_due for live in self._sessions))
                if self._stopped:
                    return
                sessions = list(self._sessions)
            self._round(sessions)
            del sessions  # nothing is held while there is nothing to do

    def _round(self, sessions: list[LiveSession]) -> None:
        """One step of each session that is ready."""
        groups: dict[Streamer, list[LiveSession]] = {}
        for live in sessions:
            if self._is_ready(live):
                groups.setdefault(live.session.streamer, []).append(live)
        for streamer, ready in groups.items():
            for some in _chunks(ready, self.most):
                self._step(streamer, some)
        for live in sessions:
            if live.session.closed and not live.is_due:
                self._over(live, None)

    def _is_ready(self, live: LiveSession) -> bool:
        try:
            live.listen()
            return live.session.is_ready
        except Exception as error:
            self._over(live, error)
            return False

    def _step(self, streamer: Streamer, sessions: list[LiveSession]) -> None:
        begun = time.monotonic()
        try:
            events = streamer.process([live.session for live in sessions])
        except Exception as error:
            if len(sessions) > 1:
                for live in sessions:
                    self._step(streamer, [live])
            else:
                self._over(sessions[0], error)
            return
        now = time.monotonic()
        audio = sum((live.num_heard - live.num_counted) / live.rate for live in sessions)
        self.metrics.worked(self.name, "live", audio, now - begun, len(sessions))
        for live in sessions:
            live.num_counted = live.num_heard
            self.metrics.queue.labels(self.name, "live").observe(max(0.0, begun - live.moment))
            for event in events[live.session]:
                latency = now - live.moment
                self.metrics.latency.labels(self.name, event.kind).observe(latency)
                live.tell(Told(event, latency))

    def _over(self, live: LiveSession, error: Exception | None) -> None:
        with self._changed:
            known = live in self._sessions
            self._sessions.pop(live, None)
        if error is not None and not isinstance(error, UserError):
            log.error("%s: a live session failed", self.name, exc_info=error)
        if known:
            live.tell(End(live.num_heard / live.rate, error))


def _chunks(sessions: list[LiveSession], size: int) -> list[list[LiveSession]]:
    waiting = iter(sessions)
    return list(iter(lambda: list(islice(waiting, size)), []))


def samples_of(data: bytes) -> Tensor:
    """16-bit PCM, little endian, as samples (n,) in [-1, 1]."""
    width, decode = ENCODINGS["s16le"]
    assert len(data) % width == 0
    return torch.from_numpy(np.ascontiguousarray(decode(data)))
