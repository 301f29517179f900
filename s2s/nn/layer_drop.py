"""Layers that a training leaves out at random."""

from __future__ import annotations

import torch
from torch import nn

from s2s.errors import UserError


class LayerDrop(nn.Module):
    """Which of `num_layers` residual layers a batch goes through: each is left out with probability `p` in a training.

    Fan, Grave and Joulin 2020, "Reducing Transformer depth on demand with structured dropout" (arXiv:1909.11556). Some
    layer is always kept. A layer left out takes no time, and nothing is scaled.
    """

    def __init__(self, num_layers: int, p: float) -> None:
        super().__init__()
        if not 0.0 <= p < 1.0:
            raise UserError(f"layer_drop={p}: expected a probability from 0 to below 1, such as 0.1")
        self.num_layers, self.p = num_layers, p

    def kept(self) -> list[bool]:
        """Of each layer, whether it is there this time."""
        if not (self.training and self.p):
            return [True] * self.num_layers
        drawn = torch.rand(self.num_layers)
        return [bool(each) for each in drawn >= min(self.p, float(drawn.max()))]
