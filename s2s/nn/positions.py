"""Position encodings."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from s2s.errors import UserError, nearest

POSITIONS = ("sinusoidal", "learned", "relative", "rotary", "alibi", "none")


def sinusoidal(positions: Tensor, dim: int) -> Tensor:
    """Sine and cosine of positions (...), negative ones too -> (..., dim) (Vaswani et al. 2017, section 3.5)."""
    rates = torch.exp(torch.arange(0, dim, 2, device=positions.device) * (-math.log(10000.0) / dim))
    angles = positions.unsqueeze(-1) * rates  # (n, dim/2)
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2)


class Positions(nn.Module):
    """What is added to the input for positions from 0 on: sinusoids, a learned table of `max_positions`, or nothing.

    Nothing for the kinds that are attention's own: relative, rotary, alibi and none.
    """

    def __init__(self, kind: str, dim: int, max_positions: int = 0) -> None:
        super().__init__()
        if kind not in POSITIONS:
            raise UserError(f"positions={kind}: expected one of {', '.join(POSITIONS)}.{nearest(kind, POSITIONS)}")
        if (kind == "learned") != bool(max_positions):
            raise UserError(
                f"positions={kind}, max_positions={max_positions}: learned positions need to know how many there are, "
                "and others have no end"
            )
        self.kind, self.dim, self.max_positions = kind, dim, max_positions
        self.weight = nn.Parameter(torch.empty(max_positions, dim)) if max_positions else None
        if self.weight is not None:
            nn.init.normal_(self.weight, std=dim**-0.5)

    def forward(self, positions: Tensor) -> Tensor:
        """positions (...) -> (..., D), or (..., 1) of zeros.

        Those past the end of the table, in rows of no interest, get its last vector.
        """
        if self.weight is not None:
            return F.embedding(positions.clamp(max=self.max_positions - 1), self.weight)
        if self.kind == "sinusoidal":
            return sinusoidal(positions, self.dim)
        return torch.zeros(*positions.shape, 1, device=positions.device)

    def first(self, size: int, device: torch.device) -> Tensor:
        """The vectors (size,D) of the first positions; UserError where the table ends before."""
        self.check(size)
        return self(torch.arange(size, device=device))

    def check(self, size: int) -> None:
        """Raise UserError where the table has fewer than `size` positions."""
        if self.weight is not None and size > self.max_positions:
            raise UserError(
                f"a sequence of {size} positions is too long for this model, which learned {self.max_positions}; "
                "give it shorter input"
            )
