"""Positions as a penalty on distance."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def slopes(num_heads: int) -> list[float]:
    """2^(-8h/H) for heads 1 to H; where H is no power of 2, some of twice as many fill up (Press et al. 2022)."""
    power = 1 << (num_heads.bit_length() - 1)
    first = [2.0 ** (-8.0 * (h + 1) / power) for h in range(power)]
    more = [2.0 ** (-8.0 * (h + 1) / (2 * power)) for h in range(0, 2 * power, 2)]
    return first + more[: num_heads - power]


class ALiBi(nn.Module):
    """A score of -m|i-j| for query i and key j, with a slope m for each head (Press et al. 2022, arXiv:2108.12409)."""

    def __init__(self, num_heads: int) -> None:
        super().__init__()
        self.slopes = slopes(num_heads)

    def bias(self, query: Tensor, query_positions: Tensor, key_positions: Tensor) -> Tensor:
        """query (B,H,U,d) at positions (U,) or (B,U), keys at (T,) or (B,T) -> an additive bias (1 or B,H,U,T)"""
        distance = (query_positions.unsqueeze(-1) - key_positions.unsqueeze(-2)).abs()
        slope = torch.tensor(self.slopes, dtype=query.dtype, device=query.device)[:, None, None]
        bias = -slope * distance.unsqueeze(-3).to(query.dtype)
        return bias if bias.dim() == 4 else bias.unsqueeze(0)
