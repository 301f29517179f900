"""The words that a stream has committed to, each once."""

from __future__ import annotations

from s2s.streaming.event import StreamEvent


class CommittedWords:
    """Follows the events of one stream, in order."""

    def __init__(self) -> None:
        self._told = 0  # of the segment at hand

    def new(self, event: StreamEvent) -> list[str]:
        """The words that this event commits to and none before it did; a final commits to all of its text."""
        words = event.stable.split()
        new, self._told = words[self._told :], 0 if event.kind == "final" else len(words)
        return new
