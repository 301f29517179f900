"""The contracts of what a search adds up, and the scorers too small for a file of their own.

N = B*K rows, the K hypotheses of one utterance adjacent. A scorer keeps what it needs in a state; scores are natural logs
of one more token, so that their sum over a hypothesis, eos included, is the score of the whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from s2s.models.memory import Decoder, Memory


class Scorer(Protocol):
    """Scores every token of the vocabulary as the next one of each hypothesis."""

    @property
    def max_gain(self) -> float:
        """The most that one more token can add to a score: 0 for log-probabilities."""
        ...

    def start(self, memory: Memory, beam_size: int, max_length: int) -> Any:
        """State of N rows, for hypotheses of at most `max_length` tokens."""
        ...

    def score(self, tokens: Tensor, state: Any) -> Tensor:
        """Last tokens (N,) -> scores (N,V); the state advances in place."""
        ...

    def select(self, state: Any, parents: Tensor) -> Any:
        """Make row n continue from row `parents[n]`, a row of the same utterance."""
        ...


@runtime_checkable
class CandidateScorer(Protocol):
    """Scores only C candidate tokens of each hypothesis, where the whole vocabulary would be too dear."""

    @property
    def max_gain(self) -> float: ...

    def start(self, memory: Memory, beam_size: int, max_length: int) -> Any: ...

    def score_candidates(self, candidates: Tensor, state: Any) -> Tensor:
        """candidates (N,C) -> scores (N,C)"""
        ...

    def select_candidates(self, state: Any, parents: Tensor, choices: Tensor) -> Any:
        """Make row n row `parents[n]` extended by its candidate number `choices[n]`."""
        ...


@dataclass(frozen=True)
class DecoderScorer:
    """The log-probabilities of an autoregressive decoder."""

    decoder: Decoder
    max_gain: float = 0.0

    def start(self, memory: Memory, beam_size: int, max_length: int) -> Any:
        return self.decoder.start(memory, beam_size, max_length)

    def score(self, tokens: Tensor, state: Any) -> Tensor:
        return self.decoder.step(tokens, state)[0]

    def select(self, state: Any, parents: Tensor) -> Any:
        return self.decoder.select(state, parents)


@dataclass(frozen=True)
class LengthBonus:
    """One for every token but eos, so that its weight is the reward of a longer hypothesis."""

    vocab_size: int
    eos_id: int
    max_gain: float = 1.0

    def start(self, memory: Memory, beam_size: int, max_length: int) -> Tensor:
        bonus = memory.states.new_ones(memory.states.size(0) * beam_size, self.vocab_size)
        bonus[:, self.eos_id] = 0.0
        return bonus

    def score(self, tokens: Tensor, state: Tensor) -> Tensor:
        return state

    def select(self, state: Tensor, parents: Tensor) -> Tensor:
        return state
