"""What a session says of the speech it hears."""

from __future__ import annotations

from dataclasses import dataclass

from s2s.decoding.alignment import Word


@dataclass(frozen=True)
class StreamEvent:
    """The text of a segment of speech so far; times are seconds from the start of the stream.

    Attributes:
        kind: "partial": it may change, except for the `stable` text that it begins with; "final": it will not, and what
            comes next is of another segment.
        text: of the whole segment so far; that of a final may be empty, where partials were shown for nothing.
        stable: whole words that `text` begins with and that later events of the segment leave as they are.
        start, end: of the text, or of the audio where words have no times.
        heard: how much audio the session had been fed.
        words: with their times, where the search knows them.
        score: log P of the text's tokens.
    """

    kind: str
    text: str
    stable: str
    start: float
    end: float
    heard: float
    words: list[Word] | None = None
    score: float = 0.0
