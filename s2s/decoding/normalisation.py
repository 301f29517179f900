"""Scores of whole hypotheses, by which long and short ones compare."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from s2s.errors import UserError


@dataclass(frozen=True)
class Normalisation:
    """Length normalisation and coverage penalty (Wu et al. 2016, "Google's neural machine translation system", eq. 14).

    s(Y) = log P(Y) / lp(Y) + cp(Y), with lp(Y) = ((5 + |Y|) / 6)^α, |Y| the tokens with eos, and cp(Y) = β times the
    sum over real frames of log min(1, the attention all tokens together paid to the frame), at least 1e-10: sparse
    attention may have paid none. Both 0: s(Y) = log P(Y).
    With a `length_power` p, lp(Y) is multiplied by |Y|^p: with p = 1 and α = 0 a score is the mean of a token.
    """

    length_alpha: float = 0.0
    coverage_beta: float = 0.0
    length_power: float = 0.0

    def __post_init__(self) -> None:
        for name in ("length_alpha", "coverage_beta", "length_power"):
            if getattr(self, name) < 0:
                raise UserError(f"{name}={getattr(self, name)}: expected 0 (off) or more, such as 0.2")

    def final(self, scores: Tensor, lengths: Tensor, coverage: Tensor | None, frames: Tensor) -> Tensor:
        """s(Y) of log P(Y) (B,K), lengths (B,) without eos, attention so far (B,K,T), which frames are real (B,T)."""
        if self.length_alpha or self.length_power:
            scores = scores / self._length_penalty(lengths + 1).unsqueeze(1).to(scores.dtype)
        if coverage is not None:
            penalty = coverage.clamp(1e-10, 1.0).log().masked_fill(~frames.unsqueeze(1), 0.0).sum(dim=-1)
            scores = scores + self.coverage_beta * penalty
        return scores

    def bound(self, scores: Tensor, lengths: Tensor, max_lengths: Tensor, max_gain: float) -> Tensor:
        """The most that a prefix of log P (B,) and `lengths` (B,) tokens can come to within `max_lengths` (B,)."""
        if max_gain:
            gain = max_gain * (max_lengths - lengths + 1)  # as many tokens, and eos
            scores = torch.where(scores > float("-inf"), scores + gain, scores)
        if not (self.length_alpha or self.length_power):
            return scores
        shortest, longest = self._length_penalty(lengths + 1), self._length_penalty(max_lengths + 1)
        return scores / torch.where(scores > 0, shortest, longest).to(scores.dtype)

    def _length_penalty(self, lengths: Tensor) -> Tensor:
        lengths = lengths.double()
        return ((5.0 + lengths) / 6.0) ** self.length_alpha * lengths**self.length_power
