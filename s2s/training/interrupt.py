"""Signals that stop a training."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType, TracebackType


class TrainingInterrupt(Exception):
    """Training was stopped by a signal, whose number it carries, after its state was saved."""


class Interrupts:
    """While it is open, the first SIGINT or SIGTERM is kept as `number`; a second one does not wait for the batch."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self.number: int | None = None

    def __enter__(self) -> None:
        self._before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def error(self) -> TrainingInterrupt:
        """What is raised; where another process got the signal, as of a scheduler's."""
        return TrainingInterrupt(self.number or signal.SIGTERM)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.number is not None:
            raise KeyboardInterrupt
        self.number = number
        self.say("stopping after this batch (Ctrl-C again stops at once, losing what was done since the last save)")
