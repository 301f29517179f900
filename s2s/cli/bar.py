"""How many seconds of audio have been heard, as a bar on the terminal."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

from s2s.cli.inputs import Input


class Bar:
    """A bar of seconds of audio on the terminal; while there is something to write, it is taken away."""

    def __init__(self, inputs: Sequence[Input], quiet: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        shown = console.is_interactive and not quiet
        self._progress = Progress(
            *(BarColumn(), TextColumn("{task.description}"), TimeRemainingColumn()),
            console=console,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            disable=not shown,
        )
        self._total = _seconds(inputs) if shown else None
        self._task = self._progress.add_task("", total=self._total)
        self.advance(0.0)

    def advance(self, seconds: float) -> None:
        self._progress.advance(self._task, seconds)
        heard, total = self._progress.tasks[0].completed, self._total
        of = "" if total is None else f" of {timedelta(seconds=round(total))}"
        self._progress.update(self._task, description=f"{timedelta(seconds=round(heard))}{of}")

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    @contextmanager
    def aside(self) -> Iterator[None]:
        self._progress.stop()
        yield
        self._progress.start()


def _seconds(inputs: Sequence[Input]) -> float | None:
    """How long the recordings are, as their headers say; None where one has to be decoded to tell."""
    import soundfile

    try:
        return sum(
            soundfile.info(each.path).duration for each in inputs if each.path is None or os.path.exists(each.path)
        )
    except (soundfile.SoundFileError, TypeError, UnicodeEncodeError):  # for ffmpeg, headerless, or standard input
        return None
