"""Positions as rotations of queries and keys."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from s2s.errors import UserError


class Rotary(nn.Module):
    """Turns each pair of features by an angle that grows with the position (Su et al. 2021, arXiv:2104.09864, eq. 34).

    The product of a query and a key then depends on how far they are apart.
    """

    def __init__(self, head_dim: int, base: float = 10000.0) -> None:
        super().__init__()
        if head_dim % 2:
            raise UserError(f"positions=rotary: head_dim={head_dim} must be even")
        self.rates = tuple(base ** (-2.0 * i / head_dim) for i in range(head_dim // 2))

    def rotate(self, x: Tensor, positions: Tensor) -> Tensor:
        """x (B,H,U,d) at positions (U,) or (B,U) -> (B,H,U,d)"""
        rates = torch.tensor(self.rates, dtype=torch.promote_types(x.dtype, torch.float32), device=x.device)
        angles = (positions.unsqueeze(-1) * rates).unsqueeze(-3)  # (1 or B...,1,U,d/2)
        cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        even, odd = x[..., ::2], x[..., 1::2]
        return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)
