"""Position encodings."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def sinusoidal(positions: Tensor, dim: int) -> Tensor:
    """Sine and cosine of positions (...), negative ones too -> (..., dim) (Vaswani et al. 2017, section 3.5)."""
    rates = torch.exp(torch.arange(0, dim, 2, device=positions.device) * (-math.log(10000.0) / dim))
    angles = positions.unsqueeze(-1) * rates  # (n, dim/2)
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2)
