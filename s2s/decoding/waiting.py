"""Utterances that wait for a place in a search."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from s2s.models.memory import Memory


class Waiting:
    """Memories, cut into as many utterances as there is place for."""

    def __init__(self, memories: Iterable[Memory]) -> None:
        self.memories = iter(memories)
        self.memory: Memory | None = None
        self.start = self.count = 0

    def take(self, places: int | None) -> Iterator[tuple[int, Memory]]:
        """At most `places` utterances (None: one whole memory), those of each memory apart, with their first number."""
        while places is None or places > 0:
            if self.memory is None or self.start >= len(self.memory.lengths):
                self.memory, self.start = next(self.memories, None), 0
                if self.memory is None:
                    return
            memory = self.memory if places is None else self.memory.rows(self.start, self.start + places)
            first = self.count
            self.start += len(memory.lengths)
            self.count += len(memory.lengths)
            if not len(memory.lengths):
                continue
            yield first, memory
            if places is None:
                return
            places -= len(memory.lengths)
