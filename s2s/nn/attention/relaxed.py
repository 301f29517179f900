"""Softmax weights, made more even."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from s2s.nn.attention.scores import fold_bias, unfold
from s2s.nn.attention.softmax import Softmax


class Relaxed(nn.Module):
    """(1-γ) softmax(Q Kᵀ / √d) + γ/T over the T frames that may be attended to (Lohrenz et al. 2022, arXiv:2209.09735).

    In training only, unless `always`. Each time γ is drawn from a normal distribution with mean `gamma` and standard
    deviation `std`, cut to 0 to 1 (their "fuzzy relaxation").
    """

    def __init__(self, gamma: float, std: float = 0.0, always: bool = False) -> None:
        super().__init__()
        self.gamma, self.std, self.always = gamma, std, always
        self.softmax = Softmax()

    def forward(
        self,
        query: Tensor,
        keys: Tensor,
        values: Tensor,
        bias: Tensor | None,
        dropout: float = 0.0,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """As `Softmax.forward`; dropout is of the softmax's part."""
        result, weights = self.softmax(query, keys, values, bias, dropout, need_weights)
        if not (self.training or self.always) or self.gamma == self.std == 0.0:
            return result, weights
        gamma = self._gamma(query)
        even = self._even(query, keys, bias)
        result = (1 - gamma) * result + gamma * self._mean(even, values, query)
        return result, None if weights is None else (1 - gamma) * weights + gamma * even

    def _gamma(self, like: Tensor) -> Tensor:
        gamma = torch.full((), self.gamma, dtype=like.dtype, device=like.device)
        if self.training and self.std:
            gamma = gamma + self.std * torch.randn((), dtype=like.dtype, device=like.device)
        return gamma.clamp(0.0, 1.0)

    def _even(self, query: Tensor, keys: Tensor, bias: Tensor | None) -> Tensor:
        """1/T where a key may be attended to, as far as it broadcasts to (B,H,U,T)."""
        if bias is None:
            return query.new_full((1, 1, 1, keys.size(2)), 1.0 / keys.size(2))
        shown = bias if bias.dtype == torch.bool else bias > float("-inf")
        return shown.to(query.dtype) / shown.sum(dim=-1, keepdim=True).clamp(min=1)

    def _mean(self, even: Tensor, values: Tensor, query: Tensor) -> Tensor:
        """The mean of the values (B,H',T,d) for every query, as far as it broadcasts to (B,H,U,d)."""
        num_heads, heads = query.size(1), values.size(1)
        if even.size(1) == 1 and even.size(2) == 1:  # the same for all queries: a product with one row
            mean = even @ values  # (B,H',1,d)
            return mean.repeat_interleave(num_heads // heads, dim=1)
        return unfold(fold_bias(even, num_heads, heads) @ values, num_heads)
