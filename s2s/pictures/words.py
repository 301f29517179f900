"""Where words are written over the time that they take, so that none covers another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from s2s.decoding.alignment import Word

SIZE = 9.0  # points
LINE, SPACE = 0.19, 0.06  # inches: of a line, and between two words of one


@dataclass(frozen=True)
class Place:
    """A word, the line it stands in, 0 the lowest, and the middle of it in seconds."""

    word: Word
    line: int
    middle: float


def places(words: Sequence[Word], start: float, end: float, width: float) -> list[Place]:
    """Where each word stands on an axis from `start` to `end` seconds, `width` inches long.

    A word is over the middle of its time, but for those that would leave the axis, in the lowest line with room for it.
    """
    per_inch = (end - start) / width
    full: list[float] = []  # up to which second each line is taken
    found = []
    for word in sorted(words, key=lambda word: word.start + word.end):
        half = 0.5 * per_inch * inches(word.text)
        middle = min(max((word.start + word.end) / 2, start + half), max(end - half, start + half))
        line = next((n for n, taken in enumerate(full) if taken <= middle - half), len(full))
        full[line : line + 1] = [middle + half + SPACE * per_inch]
        found.append(Place(word, line, middle))
    return found


@lru_cache(maxsize=4096)
def inches(text: str) -> float:
    """How long a text is when it is written."""
    from matplotlib.textpath import TextPath

    return float(TextPath((0, 0), text.replace("$", r"\$"), size=SIZE).get_extents().width) / 72
