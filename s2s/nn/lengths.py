"""Lengths to masks: made once, inside, so that public signatures take lengths only."""

from __future__ import annotations

import torch
from torch import Tensor


def valid_mask(lengths: Tensor, size: int) -> Tensor:
    """True where a frame or token is real: lengths (B,) -> (B, size)."""
    return torch.arange(size, device=lengths.device) < lengths.unsqueeze(-1)


def right_to_left(x: Tensor, lengths: Tensor) -> Tensor:
    """Sequences (B,T) or (B,T,D) of lengths (B,), each turned round; the padding stays where it is."""
    positions = torch.arange(x.size(1), device=x.device)
    turned = torch.where(valid_mask(lengths, x.size(1)), lengths.unsqueeze(1) - 1 - positions, positions)
    return x.take_along_dim(turned.view(*turned.shape, *(1,) * (x.dim() - 2)), dim=1)
