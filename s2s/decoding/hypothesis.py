"""What every search returns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Protocol

from torch import Tensor

from s2s.errors import UserError
from s2s.models.memory import Memory


@dataclass(frozen=True)
class Hypothesis:
    """Tokens without bos and eos, their score (higher is better, natural log) and what each scorer gave, unweighted.

    On request: `frames`, the first encoder frame of each token and the one past its last, and `attention` (U,T), what
    the decoder looked at for each token, the mean of its layers and heads.
    """

    tokens: list[int]
    score: float
    scores: dict[str, float] = field(default_factory=dict)
    frames: list[tuple[int, int]] | None = None
    attention: Tensor | None = None


NOT_A_NUMBER = "the model's output is not a number; check its weights and the audio"


class UtteranceError(UserError):
    """What is wrong with one utterance of a search, by its number from 0 in order of arrival."""

    def __init__(self, utterance: int, problem: str) -> None:
        super().__init__(f"utterance {utterance + 1} of the batch: {problem}")
        self.utterance, self.problem = utterance, problem


class Search(Protocol):
    """Anything that turns a memory of B utterances into B lists of hypotheses, best first."""

    def __call__(self, memory: Memory) -> list[list[Hypothesis]]: ...


def num_shared(texts: Iterable[Sequence[int]]) -> int:
    """How many tokens all of the texts begin with."""
    return sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, zip(*texts, strict=False)))
