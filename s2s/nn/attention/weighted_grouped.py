"""Keys and values that groups of heads share, as learned weighted sums."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from s2s.errors import UserError
from s2s.nn.attention.multi_head import MultiHead


class WeightedGrouped(MultiHead):
    """Weighted grouped-query attention, WGQA (Chinnakonduru and Mohapatra 2024, arXiv:2407.10855, section 3).

    Each of `kv_heads` groups has K = Σ w_h K_h and V = Σ v_h V_h of the keys and values of all its heads, with learned
    numbers w and v; they begin as the mean. What is kept is what a grouped-query attention keeps. Raises UserError
    without `kv_heads`.
    """

    def __init__(
        self,
        model_dim: int,
        num_heads: int,
        kv_heads: int | None,
        head_dim: int | None = None,
        knocking: bool = False,
    ) -> None:
        if kv_heads is None:
            raise UserError("projection=weighted_grouped: needs kv_heads, how many heads of keys and values to make")
        super().__init__(model_dim, num_heads, kv_heads, head_dim, knocking)
        self.key, self.value = (SummedLinear(model_dim, num_heads, kv_heads, self.head_dim) for _ in range(2))


class SummedLinear(nn.Module):
    """A linear layer of H heads whose outputs are summed in each of `kv_heads` groups: (...,D) -> (...,kv_heads*d).

    The weights are summed, not the outputs, which costs less.
    """

    def __init__(self, model_dim: int, num_heads: int, kv_heads: int, head_dim: int) -> None:
        super().__init__()
        heads = (kv_heads, num_heads // kv_heads)
        self.weight = nn.Parameter(torch.empty(num_heads * head_dim, model_dim))
        self.bias = nn.Parameter(torch.empty(num_heads * head_dim))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))  # as nn.Linear
        nn.init.uniform_(self.bias, -(model_dim**-0.5), model_dim**-0.5)
        self.shares = nn.Parameter(torch.full(heads, 1.0 / heads[1]))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self._summed(self.weight), self._summed(self.bias.unsqueeze(-1)).squeeze(-1))

    def _summed(self, weight: Tensor) -> Tensor:
        """(H*d,C) -> (kv_heads*d,C)"""
        heads = weight.unflatten(0, (*self.shares.shape, -1))  # (kv_heads,H/kv_heads,d,C)
        return torch.einsum("kg,kgdc->kdc", self.shares, heads).flatten(0, 1)
