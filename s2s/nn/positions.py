"""Position encodings."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from s2s.errors import UserError


def sinusoidal(positions: Tensor, dim: int) -> Tensor:
    """Sine and cosine of positions (...), negative ones too -> (..., dim) (Vaswani et al. 2017, section 3.5)."""
    rates = torch.exp(torch.arange(0, dim, 2, device=positions.device) * (-math.log(10000.0) / dim))
    angles = positions.unsqueeze(-1) * rates  # (n, dim/2)
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2)


class Positions(nn.Module):
    """Vectors of positions from 0 on: a learned table of `max_positions`, or sinusoids where that is 0."""

    def __init__(self, max_positions: int, dim: int) -> None:
        super().__init__()
        self.dim, self.max_positions = dim, max_positions
        self.weight = nn.Parameter(torch.empty(max_positions, dim)) if max_positions else None
        if self.weight is not None:
            nn.init.normal_(self.weight, std=dim**-0.5)

    def forward(self, positions: Tensor) -> Tensor:
        """positions (...) -> (..., D); those past the end of the table, in rows of no interest, get its last vector."""
        if self.weight is None:
            return sinusoidal(positions, self.dim)
        return F.embedding(positions.clamp(max=self.max_positions - 1), self.weight)

    def first(self, size: int, device: torch.device) -> Tensor:
        """The vectors (size,D) of the first positions; UserError where the table ends before."""
        if self.weight is not None and size > self.max_positions:
            raise UserError(
                f"a sequence of {size} positions is too long for this model, which learned {self.max_positions}; "
                "give it shorter input"
            )
        return self(torch.arange(size, device=device))
