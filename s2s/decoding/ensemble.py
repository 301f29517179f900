"""Several models that search as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from s2s.decoding.scorers import CandidateScorer, Scorer, State
from s2s.models.hybrid import HybridModel, Spoken
from s2s.models.memory import Memory
from s2s.models.prompts import Prompts
from s2s.nn.attention.reach import Chunked


@dataclass(frozen=True)
class EnsembleMemory(Memory):
    """The first model's memory, and those that further models have of the same utterances."""

    others: tuple[Memory, ...] = ()

    def rows(self, start: int, stop: int) -> EnsembleMemory:
        first = super().rows(start, stop)
        return EnsembleMemory(**vars(first), others=tuple(other.rows(start, stop) for other in self.others))


def encode(
    models: Sequence[HybridModel],
    source: Tensor,
    lengths: Tensor,
    chunks: Chunked | None = None,
    asked: Prompts | None = None,
    spoken: Spoken | None = None,
) -> Memory:
    """What the encoders of all models make of features (B,S,F), lengths (B,), with `chunks` as streams."""
    every = {"chunks": chunks, "asked": asked, "spoken": spoken}
    more: dict[str, Any] = {name: value for name, value in every.items() if value is not None}  # not all take them
    first, *others = (model.encode(source, lengths, **more) for model in models)
    return EnsembleMemory(**vars(first), others=tuple(others)) if others else first


class _Member:
    """A scorer that looks at the memory of the ensemble's further model `number`, from 0."""

    def __init__(self, scorer: State, number: int) -> None:
        self.scorer, self.number = scorer, number
        self.max_gain = scorer.max_gain

    def start(self, memory: Memory, beam_size: int) -> Any:
        assert isinstance(memory, EnsembleMemory)
        return self.scorer.start(memory.others[self.number], beam_size)

    def select(self, state: Any, parents: Tensor, utterances: Tensor | None = None) -> Any:
        return self.scorer.select(state, parents, utterances)

    def join(self, state: Any, other: Any) -> Any:
        return self.scorer.join(state, other)


class _ScoringMember(_Member):
    scorer: Scorer

    def score(self, tokens: Tensor, state: Any) -> Tensor:
        return self.scorer.score(tokens, state)


class _CandidateMember(_Member):
    scorer: CandidateScorer

    def score_candidates(self, tokens: Tensor, candidates: Tensor, state: Any) -> Tensor:
        return self.scorer.score_candidates(tokens, candidates, state)


def member(scorer: Scorer | CandidateScorer, number: int) -> Scorer | CandidateScorer:
    """`scorer` for an ensemble, where it looks at what model `number` encoded; 0 is the first model."""
    if number == 0:
        return scorer
    kind = _ScoringMember if isinstance(scorer, Scorer) else _CandidateMember
    return kind(scorer, number - 1)
