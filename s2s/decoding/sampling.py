"""Sampling: hypotheses drawn from the model instead of searched for."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import torch
from torch import Tensor

from s2s.decoding.engine import Choice
from s2s.decoding.grid import NEVER, Grid
from s2s.errors import UserError

BLOCK = 64  # tokens whose random numbers are made at once


@dataclass(frozen=True)
class Sampling:
    """Draw `beam_size` (K) hypotheses of each utterance, each token from the weighted scorers' sum, renormalised.

    In this order, each on what the one before has left, renormalised: the `temperature` divides the log-probabilities;
    `top_k` keeps the k most probable tokens; `top_p` the fewest most probable ones that make up this much probability
    (the nucleus, Holtzman et al. 2020); `typical_p` the fewest that make up this much, taken in the order of how near
    their -log p is to the entropy (locally typical sampling, Meister et al. 2023). None: not filtered.

    The score of a sample is its log P under the scorers, untempered and unfiltered. A search with `nbest` K returns all
    samples, best first, equal ones as often as they were drawn; with fewer, the best of the K. It needs "exact" end
    detection: "decline" drops samples that are still growing. Where scorers see candidates only, the draw is among
    these, in the order they come in; to sample from the whole vocabulary, let there be V of them.

    The random number for token u of sample k depends on `seed`, K, u and k alone: an utterance gets the same samples in
    every batch, and samples of different utterances are not independent of each other.
    """

    beam_size: int = 10
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    typical_p: float | None = None
    seed: int = 0
    groups: int = field(default=1, init=False, repr=False)
    num_candidates: None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.beam_size < 1:
            raise UserError(f"beam_size={self.beam_size}: expected at least 1 sample")
        if not 0 < self.temperature < float("inf"):
            raise UserError(f"temperature={self.temperature}: expected a number above 0, such as 1.0")
        if self.top_k is not None and self.top_k < 1:
            raise UserError(f"top_k={self.top_k}: expected at least 1 token, or null to keep them all")
        for name in ("top_p", "typical_p"):
            share = getattr(self, name)
            if share is not None and not 0 < share <= 1:
                raise UserError(f"{name}={share}: expected a number above 0 and at most 1, or null to keep all tokens")
        if not 0 <= self.seed < 2**63:
            raise UserError(f"seed={self.seed}: expected a whole number from 0 to 2^63 - 1")

    def start(self, like: Tensor) -> Tensor:
        return like.new_zeros(self.beam_size)

    def choose(self, total: Tensor, tokens: Tensor, ends: Tensor, vocab_size: int, grid: Grid) -> Choice:
        blocks = -(-grid.tokens.size(-1) // BLOCK)  # the grid has room for the longest hypothesis
        table = _uniforms(self.seed, self.beam_size, blocks, total.device)
        # An utterance that is finished may still be there, longer than it may be.
        uniforms = table[grid.lengths.clamp(max=len(table) - 1)]  # (B,K)
        drawn = _draw(self._weights(total), uniforms).unsqueeze(-1)  # (B,K,1)
        scores, ending = total.gather(-1, drawn).squeeze(-1), ends.gather(-1, drawn).squeeze(-1)
        extensions = torch.arange(self.beam_size, device=total.device) * total.size(-1) + drawn.squeeze(-1)
        return Choice(extensions, scores.masked_fill(ending, NEVER), extensions, scores.masked_fill(~ending, NEVER))

    def _weights(self, total: Tensor) -> Tensor:
        """log P (B,K,C) -> weights to draw by (B,K,C), float64, not normalised; all 0 where nothing is allowed."""
        total = total.double()
        best = total.amax(dim=-1, keepdim=True)
        weights = ((total - best.masked_fill(best == NEVER, 0.0)) / self.temperature).exp()
        if self.top_k is not None:
            kept, indices = weights.topk(min(self.top_k, weights.size(-1)), dim=-1)
            weights = torch.zeros_like(weights).scatter(-1, indices, kept)
        if self.top_p is not None:
            weights = _smallest_set(weights, weights, self.top_p)
        if self.typical_p is not None:
            probs = weights / weights.sum(dim=-1, keepdim=True).clamp(min=1e-300)
            entropy = torch.special.entr(probs).sum(dim=-1, keepdim=True)
            weights = _smallest_set(weights, -(probs.log() + entropy).abs(), self.typical_p)
        return weights


def _smallest_set(weights: Tensor, ranks: Tensor, share: float) -> Tensor:
    """Weights (B,K,C), 0 for all but those of the highest ranks (B,K,C) that first make up `share` of the sum."""
    order = ranks.argsort(dim=-1, descending=True, stable=True)
    sorted_weights = weights.gather(-1, order)
    sums = sorted_weights.cumsum(dim=-1)
    kept = sorted_weights.masked_fill(sums - sorted_weights >= share * sums[..., -1:], 0.0)
    return torch.zeros_like(weights).scatter(-1, order, kept)


def _draw(weights: Tensor, uniforms: Tensor) -> Tensor:
    """The first of C whose cumulative weight exceeds u of the sum: weights (B,K,C), u (B,K) in [0,1) -> (B,K)."""
    # A sum made in parallel need not grow with every term: a token of weight 0 is taken out, or it might be drawn.
    sums = weights.cumsum(dim=-1).masked_fill(weights == 0, NEVER)
    most = sums.amax(dim=-1, keepdim=True).clamp(min=0.0)
    return (sums > uniforms.unsqueeze(-1) * most).int().argmax(dim=-1)


@lru_cache(maxsize=8)
def _uniforms(seed: int, num_samples: int, blocks: int, device: torch.device) -> Tensor:
    """Random numbers (U,K) in [0,1), U = blocks * BLOCK; more blocks only add to those of fewer."""
    generator = torch.Generator().manual_seed(seed)
    table = [torch.rand(BLOCK, num_samples, generator=generator, dtype=torch.float64) for _ in range(blocks)]
    return torch.cat(table).to(device)
