"""Dropout whose random numbers cost a CPU little."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_LEVELS = 1 << 16


class Dropout(nn.Dropout):
    """`dropped` as a module."""

    def forward(self, x: Tensor) -> Tensor:
        return dropped(x, self.p, self.training)


def dropped(x: Tensor, p: float, training: bool = True) -> Tensor:
    """x (...) with a share `p` of its values set to 0 and the others divided by 1 - p, if in training.

    torch draws two 32-bit numbers of a serial generator for every value, a sixth of a training step on a CPU. Here four
    values share 64 bits: p is a multiple of 2^-16, and so is the share that remains by which they are divided.
    """
    if not training or not 0.0 < p < 1.0 or x.device.type != "cpu" or torch.compiler.is_compiling():
        return F.dropout(x, p, training)
    out = round(p * _LEVELS)
    size = x.numel()
    bits = torch.empty(-(-size // 4), dtype=torch.int64).random_(-(2**63), None)
    levels = bits.view(torch.int16)[:size].view(x.shape).to(torch.float32)
    kept = levels.ge_(out - _LEVELS // 2).mul_(_LEVELS / max(1, _LEVELS - out))
    return x * kept.to(x.dtype)
