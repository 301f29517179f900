"""Multi-head attention over projected keys and values, fused where the weights are not asked for."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from s2s.errors import UserError


def attend(
    query: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None, dropout: float = 0.0, need_weights: bool = False
) -> tuple[Tensor, Tensor | None]:
    """softmax(Q Kᵀ / √d + bias) V for query (B,H,U,d), keys and values (B,H,T,d) (Vaswani et al. 2017, eq. 1).

    `bias` broadcasts to (B,H,U,T): bool (True attends) or additive. Returns the result (B,H,U,d) and, on request, the
    weights (B,H,U,T) before dropout.
    """
    if not need_weights:
        return F.scaled_dot_product_attention(query, keys, values, attn_mask=bias, dropout_p=dropout), None
    scores = query @ keys.transpose(-2, -1) / math.sqrt(query.size(-1))
    if bias is not None:
        scores = scores.masked_fill(~bias, float("-inf")) if bias.dtype == torch.bool else scores + bias
    weights = scores.softmax(dim=-1)
    return F.dropout(weights, dropout) @ values, weights


def count_bias(counts: Tensor, like: Tensor) -> Tensor:
    """The bias of `attend` for keys that each stand for several alike: the log of how many, -inf for none.

    A mask, bool, is its own bias.
    """
    return counts if counts.dtype == torch.bool else counts.to(like.dtype).log()


class Heads(nn.Module):
    """Query, key, value and output projections of H heads: (B,U,D) <-> (B,H,U,D/H)."""

    def __init__(self, model_dim: int, num_heads: int) -> None:
        super().__init__()
        if model_dim % num_heads:
            raise UserError(
                f"model_dim={model_dim} does not divide into num_heads={num_heads}: choose a multiple of the heads"
            )
        self.num_heads = num_heads
        self.head_dim = model_dim // num_heads
        self.query = nn.Linear(model_dim, model_dim)
        self.key = nn.Linear(model_dim, model_dim)
        self.value = nn.Linear(model_dim, model_dim)
        self.out = nn.Linear(model_dim, model_dim)

    def split(self, x: Tensor) -> Tensor:
        """(B,U,D) -> (B,H,U,d)"""
        return x.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)

    def join(self, x: Tensor) -> Tensor:
        """(B,H,U,d) -> (B,U,D), projected."""
        return self.out(x.transpose(1, 2).flatten(2))

    def keys_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (B,H,T,d) of x (B,T,D)."""
        return self.split(self.key(x)), self.split(self.value(x))


class MultiHeadAttention(nn.Module):
    """Attention of queries (B,U,D) over keys and values (B,H,T,d) that `heads.keys_values` made, perhaps long ago."""

    def __init__(self, model_dim: int, num_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = Heads(model_dim, num_heads)
        self.dropout = dropout

    def forward(
        self, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None, need_weights: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Result (B,U,D) and, on request, weights (B,H,U,T); `mask` bool, broadcast to (B,H,U,T), True attends."""
        dropout = self.dropout if self.training else 0.0
        result, weights = attend(self.heads.split(self.heads.query(query)), keys, values, mask, dropout, need_weights)
        return self.heads.join(result), weights
