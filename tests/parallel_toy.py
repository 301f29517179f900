"""Parallel text to score: sentences of invented words, and outputs that get some of them wrong."""

from __future__ import annotations

import random

WORDS = [
    "der",
    "Hund",
    "läuft",
    "über",
    "eine",
    "grüne",
    "Wiese",
    ",",
    "und",
    "zwei",
    "Kinder",
    "sehen",
    "ihm",
    "zu",
    ".",
    "Nachts",
    "ist",
    "es",
    "kalt",
    "hier",
]


def sentences(count: int, seed: int = 0, longest: int = 14) -> list[str]:
    """`count` sentences of 1 to `longest` words."""
    chance = random.Random(seed)
    return [" ".join(chance.choices(WORDS, k=chance.randint(1, longest))) for _ in range(count)]


def spoilt(texts: list[str], rate: float, seed: int = 1) -> list[str]:
    """The texts with each word replaced, left out or doubled with probability `rate`."""
    chance = random.Random(seed)
    outputs = []
    for text in texts:
        words = []
        for word in text.split():
            edits = ([chance.choice(WORDS)], [], [word, chance.choice(WORDS)])
            words += chance.choice(edits) if chance.random() < rate else [word]
        outputs.append(" ".join(words))
    return outputs
