"""A linear map from features that all heads share to those of each head."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class HeadLinear(nn.Module):
    """C shared features to d of each of H heads, before attention or after it: both are linear, and so change places.

    `weight` is (H*d,C). It is no `nn.Linear`, since what computes with packed weights can only be used one way.
    """

    def __init__(self, shared_dim: int, num_heads: int, head_dim: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.weight = nn.Parameter(torch.empty(num_heads * head_dim, shared_dim))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))  # as nn.Linear

    @property
    def of_heads(self) -> Tensor:
        """The weight as (H,d,C)."""
        return self.weight.unflatten(0, (self.num_heads, -1))

    def before(self, x: Tensor) -> Tensor:
        """What is the same for all heads, x (B,T,C) -> (B,H,T,d)"""
        return F.linear(x, self.weight).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

    def after(self, x: Tensor) -> Tensor:
        """What each head found of it, x (B,H,U,C) -> (B,H,U,d)"""
        return torch.einsum("bhuc,hdc->bhud", x, self.of_heads)

    def transposed(self, query: Tensor) -> Tensor:
        """query (B,H,U,d) -> (B,H,U,C), whose products with what is shared are those of the query with `before`."""
        return torch.einsum("bhud,hdc->bhuc", query, self.of_heads)
