"""Recordings of many clients, heard by one model in common batches."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field, replace

from s2s.audio.voice_activity import VoiceActivity
from s2s.audio.windows import Window
from s2s.errors import UserError
from s2s.server.metrics import Metrics
from s2s.server.settings import ServerSettings
from s2s.transcription.request import Request
from s2s.transcription.transcriber import Transcriber
from s2s.transcription.transcript import Transcript

log = logging.getLogger("s2s.server")
NICENESS = 5
PATIENCE = 5.0  # seconds


@dataclass(eq=False)
class _Turn:
    """A window that waits to be heard."""

    job: FileJob
    window: Window
    request: Request
    language: str | None
    since: float = field(default_factory=time.monotonic)
    found: Future[Transcript] = field(default_factory=Future)


class SharedModel:
    """Hears windows of many jobs in a thread of its own: those that wait, of all jobs in turn, side by side.

    No batch is longer than the settings say, so that no job waits long for another's; nor do live sessions, to which
    this thread leaves the cores. What fails in a batch is tried again job by job, so that it is nobody else's failure.
    """

    def __init__(self, name: str, transcriber: Transcriber, settings: ServerSettings, metrics: Metrics) -> None:
        self.name, self.transcriber, self.metrics = name, transcriber, metrics
        self.batch_seconds = settings.batch_seconds
        self._waiting: dict[FileJob, deque[_Turn]] = {}
        self._changed = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name=f"files of {name}", daemon=True)
        self._thread.start()

    def put(self, turns: Sequence[_Turn]) -> None:
        """Have windows of a job heard."""
        with self._changed:
            for turn in turns:
                self._waiting.setdefault(turn.job, deque()).append(turn)
            self._changed.notify()

    def forget(self, job: FileJob) -> None:
        """Nothing of a job needs to be heard any more."""
        with self._changed:
            self._waiting.pop(job, None)

    def stop(self) -> None:
        """End the thread, when it is done with what it has in hand, or, where that takes long, with the process."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join(PATIENCE)

    def _run(self) -> None:
        be_nice()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._stopped)
                if self._stopped:
                    return
                batch = self._batch()
            self._hear(batch)
            del batch  # nothing is held while there is nothing to do

    def _batch(self) -> list[_Turn]:
        """The next windows: one of each job, again and again, of jobs that ask for the same."""
        batch: list[_Turn] = []
        seconds = 0.0
        kind: Request | None = None
        while len(batch) < self.transcriber.at_once:
            before = len(batch)
            for job, turns in list(self._waiting.items()):
                turn = turns[0]
                own = replace(turn.request, language=None)
                length = len(turn.window.samples) / self.transcriber.sampling_rate
                if (kind is not None and own != kind) or (batch and seconds + length > self.batch_seconds):
                    continue
                if len(batch) == self.transcriber.at_once:
                    break
                kind, seconds = own, seconds + length
                batch.append(turns.popleft())
                del self._waiting[job]
                if turns:
                    self._waiting[job] = turns  # behind all others
            if len(batch) == before:
                break
        return batch

    def _hear(self, batch: Sequence[_Turn]) -> None:
        windows = [turn.window for turn in batch]
        begun = time.monotonic()
        for turn in batch:
            self.metrics.queue.labels(self.name, "file").observe(begun - turn.since)
        try:
            found = self.transcriber.hear(windows, batch[0].request, [turn.language for turn in batch])
        except Exception as error:
            jobs = dict.fromkeys(turn.job for turn in batch)
            if len(jobs) > 1:
                for job in jobs:
                    self._hear([turn for turn in batch if turn.job is job])
                return
            if not isinstance(error, UserError):
                log.exception("%s: hearing a file failed", self.name)
            for turn in batch:
                _settle(turn.found, error)
            return
        audio = sum(len(window.samples) for window in windows) / self.transcriber.sampling_rate
        self.metrics.worked(self.name, "file", audio, time.monotonic() - begun, len(batch))
        for turn, transcript in zip(batch, found, strict=True):
            _settle(turn.found, transcript)


class FileJob(Transcriber):
    """A transcriber for one client, whose windows are heard together with those of others; `cancel` ends it."""

    def __init__(self, model: SharedModel) -> None:
        self.model, self.inner = model, model.transcriber
        self.max_window, self.at_once = self.inner.max_window, self.inner.at_once
        self._turns: list[_Turn] = []
        self._cancelled = False
        self._lock = threading.Lock()

    @property
    def sampling_rate(self) -> int:
        return self.inner.sampling_rate

    def check(self, request: Request) -> Request:
        return self.inner.check(request)

    def has_speech(self, window: Window, detector: VoiceActivity) -> bool:
        return self.inner.has_speech(window, detector)

    def hear(self, windows: Sequence[Window], request: Request, languages: Sequence[str | None]) -> list[Transcript]:
        """As the model itself, when it is its turn; raises CancelledError where nobody wants to know any more."""
        turns = [_Turn(self, *each) for each in zip(windows, [request] * len(windows), languages, strict=True)]
        with self._lock:
            if self._cancelled:
                raise CancelledError
            self._turns = turns
        self.model.put(turns)
        return [turn.found.result() for turn in turns]

    def cancel(self) -> None:
        """Nobody waits for it any more."""
        with self._lock:
            self._cancelled = True
            turns = self._turns
        self.model.forget(self)
        for turn in turns:
            _settle(turn.found, CancelledError())


def _settle(future: Future[Transcript], outcome: Transcript | BaseException) -> None:
    """Give a future its result or error, unless it has one."""
    if not future.done():
        if isinstance(outcome, BaseException):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)


def be_nice() -> None:
    """Let this thread, and those that it starts, have what others leave of the cores, where the system can do that."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
