"""Scores to weights of which many are exactly zero."""

from __future__ import annotations

from collections.abc import Callable

import torch
from entmax import entmax_bisect
from torch import Tensor, nn

from s2s.nn.attention.scores import mixed, normalised, opened, scored
from s2s.nn.dropout import dropped

ITERATIONS = {torch.float32: 30, torch.float64: 50}  # of bisection: more change no digit of the weights
LEAST_ALPHA = 1.01  # below it the weights are those of a softmax, and float32 loses them in 1/(α-1)


class Sparse(nn.Module):
    """transform(Q Kᵀ / √d + bias) V, where `transform` makes weights that sum to one of scores (B,H,U,T).

    It is [(α-1) z - τ]₊^(1/(α-1)) of scores z, with the τ that makes the sum one (Peters, Niculae and Martins 2019,
    arXiv:1905.05702): entmax15 for α=1.5, sparsemax for α=2 (Martins and Astudillo 2016, arXiv:1602.02068), `Entmax`
    for a learned α. It is given float32 or float64 in any precision.
    """

    def __init__(self, transform: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.transform = transform

    def forward(
        self,
        query: Tensor,
        keys: Tensor,
        values: Tensor,
        bias: Tensor | None,
        dropout: float = 0.0,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """As `Softmax.forward`; all weights are zero where no key may be attended to."""
        scores, shown = opened(scored(query, keys), bias)
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
        weights = normalised(scores, shown, self.transform).to(values.dtype)
        return mixed(dropped(weights, dropout), values), weights if need_weights else None


class Entmax(nn.Module):
    """α-entmax with α = 1 + sigmoid(a) learned for each head (Correia, Niculae and Martins 2019, arXiv:1909.00015).

    `a` begins at random, so that heads differ; α does not fall below 1.01.
    """

    def __init__(self, num_heads: int) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.randn(num_heads, 1, 1))

    def forward(self, scores: Tensor) -> Tensor:
        """scores (B,H,U,T), float32 or float64 -> weights (B,H,U,T)"""
        alpha = (1 + self.a.to(scores.dtype).sigmoid()).clamp(min=LEAST_ALPHA)
        weights: Tensor = entmax_bisect(scores, alpha, n_iter=ITERATIONS[scores.dtype])
        return weights
