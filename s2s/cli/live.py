"""What `s2s stream` shows while somebody speaks, and its log of events."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from s2s.cli.outputs import print_segments
from s2s.files import replacing
from s2s.streaming.event import StreamEvent
from s2s.streaming.listen import Told
from s2s.transcription.transcript import Segment


class Live:
    """Text that may still change, at the foot of a terminal; final text is printed above it."""

    def __init__(self, quiet: bool) -> None:
        from rich.console import Console
        from rich.live import Live as Area

        console = Console(stderr=True)
        self._shown = console.is_interactive and not quiet
        self._area = Area(console=console, transient=True, redirect_stdout=False, redirect_stderr=False)

    def __enter__(self) -> Live:
        if self._shown:
            self._area.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._shown:
            self._area.stop()

    def show(self, event: StreamEvent) -> None:
        """The text of a segment that is not over; dim, what of it may change."""
        if self._shown:
            from rich.text import Text

            self._area.update(Text.assemble(event.stable, (event.text.removeprefix(event.stable), "dim")))

    def print(self, segment: Segment, prefix: str) -> None:
        """A line for a segment that is over."""
        if self._shown:
            self._area.update("")
            self._area.stop()
        print_segments([segment], prefix, timed=True)
        if self._shown:
            self._area.start()


class EventLog:
    """Events as JSON, a line each, in a file that is there when all is told; no file: nowhere."""

    def __init__(self, path: Path | None) -> None:
        self._path, self._stack = path, ExitStack()

    def __enter__(self) -> EventLog:
        self._file = None
        if self._path is not None:
            self._file = self._stack.enter_context(
                self._stack.enter_context(replacing(self._path)).open("w", encoding="utf-8")
            )
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.__exit__(*error)  # type: ignore[arg-type]

    def tell(self, source: str, told: Told) -> None:
        """An event of a source."""
        event = told.event
        words = None if event.words is None else [asdict(word) for word in event.words]
        times = {"start": event.start, "end": event.end, "heard": event.heard, "wall": round(told.wall, 6)}
        self._write({"source": source, "event": event.kind, "text": event.text, **times, "words": words})

    def end(self, source: str, heard: float, wall: float) -> None:
        """A source of so many seconds is over."""
        self._write({"source": source, "event": "end", "heard": heard, "wall": round(wall, 6)})

    def _write(self, content: dict[str, object]) -> None:
        if self._file is not None:
            self._file.write(json.dumps(content, ensure_ascii=False) + "\n")
            self._file.flush()
