"""Weights by rectified scores, without a softmax."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from s2s.nn.attention.scores import mixed, opened, scored
from s2s.nn.dropout import dropped

EPSILON = 1e-8


class Rectified(nn.Module):
    """Rectified linear attention, ReLA-g (Zhang, Titov and Sennrich 2021, arXiv:2104.07012).

    With z = ReLU(Q Kᵀ / √d + bias) V of all heads of a query side by side, the result is
    sigmoid(w ⊙ z) ⊙ g ⊙ z / √(mean(z²) + ε); w is `gate` and g `scale`, (H,1,d) each. Weights do not sum to one, and a
    head may attend to nothing.
    """

    def __init__(self, num_heads: int, head_dim: int) -> None:
        super().__init__()
        bound = (3 / (num_heads * head_dim)) ** 0.5
        self.scale = nn.Parameter(torch.ones(num_heads, 1, head_dim))
        self.gate = nn.Parameter(torch.empty(num_heads, 1, head_dim).uniform_(-bound, bound))

    def forward(
        self,
        query: Tensor,
        keys: Tensor,
        values: Tensor,
        bias: Tensor | None,
        dropout: float = 0.0,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """As `Softmax.forward`; the weights are those before the norm."""
        scores, shown = opened(scored(query, keys), bias)
        weights = scores.relu()
        if shown is not None:
            weights = weights.masked_fill(~shown, 0.0)
        weights = weights.to(values.dtype)
        return self._normalised(mixed(dropped(weights, dropout), values)), weights if need_weights else None

    def _normalised(self, result: Tensor) -> Tensor:
        """(B,H,U,d) -> the same shape, in float32 at least."""
        z = result.to(torch.promote_types(result.dtype, torch.float32))
        normal = z * (z.square().mean(dim=(1, 3), keepdim=True) + EPSILON).rsqrt()
        return ((self.gate * z).sigmoid() * self.scale * normal).to(result.dtype)
