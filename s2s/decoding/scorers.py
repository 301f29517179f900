"""The contracts of what a search adds up, and the scorers too small for a file of their own.

N = B*K rows, the K hypotheses of one utterance adjacent; rows of one batch may be at different lengths. A scorer keeps
what it needs in a state. Scores are natural logs of one more token, so that their sum over a hypothesis, eos included,
is the score of the whole; -inf forbids a token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from s2s.models.memory import Decoder, Memory
from s2s.nn.lengths import valid_mask

READ_AT_ONCE = 16  # tokens of a prefix whose probabilities of the whole vocabulary are held together


class State(Protocol):
    """What every scorer can do with its state."""

    @property
    def max_gain(self) -> float:
        """The most that one more token can add to a score: 0 for log-probabilities, inf where there is no bound."""
        ...

    def start(self, memory: Memory, beam_size: int) -> Any:
        """State of N = B * beam_size empty hypotheses."""
        ...

    def select(self, state: Any, parents: Tensor, utterances: Tensor | None = None) -> Any:
        """Make row n continue from row `parents[n]`, a row of the same utterance.

        Where utterances leave, `utterances` (B') names those that stay and `parents` (N') has rows for them only.
        """
        ...

    def join(self, state: Any, other: Any) -> Any:
        """The utterances of `other` behind those of `state`."""
        ...


@runtime_checkable
class Scorer(State, Protocol):
    """Scores every token of the vocabulary as the next one of each hypothesis."""

    def score(self, tokens: Tensor, state: Any) -> Tensor:
        """Last tokens (N,), bos at first -> scores (N,V); the state advances in place.

        A token of -1 leaves its row as it was, and what is returned for that row means nothing.
        """
        ...


@runtime_checkable
class CandidateScorer(State, Protocol):
    """Scores only C candidate tokens of each hypothesis, where the whole vocabulary would be too dear."""

    def score_candidates(self, tokens: Tensor, candidates: Tensor, state: Any) -> Tensor:
        """Last tokens (N,), bos at first, candidates (N,C) -> scores (N,C); the state advances in place.

        A token of -1 leaves its row as it was.
        """
        ...


class RowState:
    """`select` and `join` of a scorer whose state is one tensor with rows first."""

    def select(self, state: Tensor, parents: Tensor, utterances: Tensor | None = None) -> Tensor:
        return state.index_select(0, parents)

    def join(self, state: Tensor, other: Tensor) -> Tensor:
        return torch.cat((state, other))


@runtime_checkable
class PromptDecoder(Protocol):
    """A decoder that reads many tokens of new hypotheses in one pass."""

    def prompt(self, tokens: Tensor, lengths: Tensor, state: Any) -> Tensor:
        """Begin all hypotheses of an utterance with tokens (B,P), lengths (B,) -> what `log_probs` takes (B,P,D')."""
        ...

    def log_probs(self, x: Tensor) -> Tensor:
        """(B,P,D') -> log-probabilities (B,P,V) of each next token"""
        ...


@dataclass(frozen=True)
class DecoderScorer:
    """The log-probabilities of an autoregressive decoder, or of a language model, which looks at no memory."""

    decoder: Decoder
    need_attention: bool = False
    max_gain: float = 0.0

    def start(self, memory: Memory, beam_size: int) -> Any:
        return self.decoder.start(memory, beam_size, self.need_attention)

    def score(self, tokens: Tensor, state: Any) -> Tensor:
        return self.decoder.step(tokens, state)[0]

    def read_prefix(self, tokens: Tensor, lengths: Tensor, state: Any) -> Tensor | None:
        """As `s2s.decoding.prefix.read_prefix`, in one pass, where the decoder has a `prompt`."""
        if not isinstance(self.decoder, PromptDecoder):
            return None
        x = self.decoder.prompt(tokens[:, :-1], lengths, state)
        inside = valid_mask(lengths, x.size(1))
        total = torch.zeros(len(lengths), dtype=torch.float64, device=lengths.device)
        for first in range(0, x.size(1), READ_AT_ONCE):
            part = slice(first, first + READ_AT_ONCE)
            gains = self.decoder.log_probs(x[:, part]).gather(2, tokens[:, 1:][:, part].unsqueeze(2)).squeeze(2)
            total += gains.masked_fill(~inside[:, part], 0.0).sum(dim=1)
        return total

    def select(self, state: Any, parents: Tensor, utterances: Tensor | None = None) -> Any:
        return self.decoder.select(state, parents, utterances)

    def join(self, state: Any, other: Any) -> Any:
        return self.decoder.join(state, other)


@dataclass(frozen=True)
class LengthBonus(RowState):
    """One for every token but eos, so that its weight is the reward of a longer hypothesis."""

    vocab_size: int
    eos_id: int
    max_gain: float = 1.0

    def start(self, memory: Memory, beam_size: int) -> Tensor:
        bonus = memory.states.new_ones(memory.states.size(0) * beam_size, self.vocab_size)
        bonus[:, self.eos_id] = 0.0
        return bonus

    def score(self, tokens: Tensor, state: Tensor) -> Tensor:
        return state
