"""Heads that are left out in training."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from s2s.errors import UserError


class HeadMask(nn.Module):
    """In training, the results of `masked_heads` heads drawn at random are zero, of other ones in every batch.

    HeadMask's "mask randomly" (Sun et al. 2020, arXiv:2009.09672): those that are left are not scaled. Raises UserError
    where no head would be left.
    """

    def __init__(self, num_heads: int, masked_heads: int) -> None:
        super().__init__()
        if masked_heads >= num_heads:
            raise UserError(f"masked_heads={masked_heads}: expected fewer than the num_heads={num_heads} there are")
        self.masked_heads = masked_heads

    def forward(self, x: Tensor, results: Tensor) -> Tensor:
        """Results (B,H,U,d) of heads -> the same shape."""
        if not self.training:
            return results
        masked = torch.randperm(results.size(1), device=results.device) < self.masked_heads
        return results.masked_fill(masked[:, None, None], 0.0)
