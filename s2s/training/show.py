"""Progress on a terminal; nothing where output goes to a file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Item = TypeVar("Item")


class Display:
    """A bar for one epoch with the time left, the loss so far and the learning rate."""

    def __init__(self, epoch: int, max_epochs: int, done: int, total: int) -> None:
        console = Console(stderr=True)
        self.bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.task = self.bars.add_task(f"epoch {epoch}/{max_epochs}", total=total, completed=done, note="")

    def __enter__(self) -> Display:
        self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bars.stop()

    def advance(self, loss: float, learning_rate: float) -> None:
        """One more batch is done."""
        self.bars.update(self.task, advance=1, note=f"loss {loss:.3f} lr {learning_rate:.1e}")

    def track(self, items: Iterable[Item], what: str) -> Iterator[Item]:
        """Go over `items` (which have a length) under a bar of their own."""
        yield from self.bars.track(items, description=what, total=len(items))  # type: ignore[arg-type]
