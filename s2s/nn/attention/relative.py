"""Positions as scores of their own."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from s2s.nn.linear import Linear
from s2s.nn.positions import sinusoidal


def shift(scores: Tensor, num_keys: int) -> Tensor:
    """Line up position scores (..., Q, T+Q-1), farthest past first, with keys: entry (a, j) is taken from Q-1-a+j.

    Row a of a matrix of width W starts one column earlier than row a-1: that is the same memory read with width W-1.
    """
    num_queries, width = scores.shape[-2:]
    if num_queries == 1:
        return scores
    flat = scores.flatten(-2)[..., num_queries - 1 : num_queries * width - 1]
    return flat.unflatten(-1, (num_queries, width - 1))[..., :num_keys]


class Relative(nn.Module):
    """Transformer-XL positions (Dai et al. 2019, section 3.3): ((q_i + u)·k_j + (q_i + v)·W r_{i-j}) / √d."""

    def __init__(self, model_dim: int, num_heads: int, head_dim: int) -> None:
        super().__init__()
        self.model_dim, self.num_heads = model_dim, num_heads
        self.projection = Linear(model_dim, num_heads * head_dim, bias=False)
        self.content_bias = nn.Parameter(torch.zeros(num_heads, 1, head_dim))  # u
        self.position_bias = nn.Parameter(torch.zeros(num_heads, 1, head_dim))  # v

    def content(self, query: Tensor) -> Tensor:
        """q + u, for query (B,H,U,d)"""
        return query + self.content_bias

    def bias(self, query: Tensor, query_positions: Tensor, key_positions: Tensor) -> Tensor:
        """query (B,H,U,d) at positions (U,) or (B,U), keys at (T,) or (B,T) -> what is added to scores (B,H,U,T).

        Positions without B are taken to be in a row.
        """
        query = query + self.position_bias
        if query_positions.dim() == 1:
            first = query_positions[-1] - key_positions[0]  # the farthest past
            steps = torch.arange(len(query_positions) + len(key_positions) - 1, device=query.device)
            return shift(self._scores(query, first - steps), len(key_positions))
        offsets = query_positions.unsqueeze(-1) - key_positions.unsqueeze(-2)  # (B,U,T)
        low, high = int(offsets.min()), int(offsets.max())
        scores = self._scores(query, torch.arange(low, high + 1, device=query.device))
        index = (offsets - low).unsqueeze(1).expand(-1, self.num_heads, -1, -1)
        return scores.gather(-1, index)

    def _scores(self, query: Tensor, offsets: Tensor) -> Tensor:
        """(q_i + v)·W r / √d of query (B,H,U,d) for each of offsets (R,) -> (B,H,U,R)"""
        encodings = self.projection(sinusoidal(offsets, self.model_dim).to(query.dtype))  # (R,H*d)
        keys = encodings.unflatten(-1, (self.num_heads, -1)).transpose(0, 1)  # (H,R,d)
        return query / math.sqrt(query.size(-1)) @ keys.transpose(-2, -1)
