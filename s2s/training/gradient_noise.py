"""Noise on the gradients, less and less of it."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn


def add_gradient_noise(parameters: Iterable[nn.Parameter], eta: float, steps: int, seed: int) -> None:
    """Add normal noise of variance eta / (1 + steps)^0.55 to every gradient there is (Neelakantan et al. 2015, eq. 1).

    It is that of (seed, steps), the same on all processes, whose gradients are the same.
    """
    deviation = (eta / (1 + steps) ** 0.55) ** 0.5
    chance = torch.Generator().manual_seed((seed * 1_000_003 + steps) % 2**63)
    for parameter in parameters:
        if parameter.grad is not None:
            noise = torch.randn(parameter.shape, generator=chance) * deviation
            parameter.grad.add_(noise.to(parameter.grad))
