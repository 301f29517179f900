"""What every search returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from s2s.models.memory import Memory


@dataclass(frozen=True)
class Hypothesis:
    """Tokens without bos and eos, their score (higher is better, natural log) and what each scorer gave, unweighted."""

    tokens: list[int]
    score: float
    scores: dict[str, float] = field(default_factory=dict)


class Search(Protocol):
    """Anything that turns a memory of B utterances into B lists of hypotheses, best first."""

    def __call__(self, memory: Memory) -> list[list[Hypothesis]]: ...
