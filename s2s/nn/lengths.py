"""Lengths to masks: made once, inside, so that public signatures take lengths only."""

from __future__ import annotations

import torch
from torch import Tensor


def valid_mask(lengths: Tensor, size: int) -> Tensor:
    """True where a frame or token is real: lengths (B,) -> (B, size)."""
    return torch.arange(size, device=lengths.device) < lengths.unsqueeze(-1)
