"""First-order linear recurrences, all steps at once."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def recurrence(decay: Tensor, x: Tensor) -> Tensor:
    """y_j = a_j y_{j-1} + x_j along the last dimension, y_{-1} = 0: `decay` a and x (...,T) -> y (...,T)

    A parallel scan by doubling (Hillis and Steele 1986): log2 T steps of products and sums, without a division or a
    logarithm, so that for 0 <= a <= 1 and x >= 0 nothing overflows and what underflows is as small as that. Its
    gradient is a recurrence too, from the end, and none of the steps is kept for it.
    """
    result: Tensor = _Recurrence.apply(decay, x)
    return result


class _Recurrence(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, decay: Tensor, x: Tensor) -> Tensor:
        y = _scan(decay, x)
        ctx.save_for_backward(decay, y)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        decay, y = ctx.saved_tensors
        of_x = recurrence_from_the_end(decay, gradients[0])
        return of_x * F.pad(y[..., :-1], (1, 0)), of_x


def recurrence_from_the_end(decay: Tensor, x: Tensor) -> Tensor:
    """y_j = a_{j+1} y_{j+1} + x_j along the last dimension: `decay` a and x (...,T) -> y (...,T)"""
    return recurrence(F.pad(decay[..., 1:], (0, 1)).flip(-1), x.flip(-1)).flip(-1)


def _scan(decay: Tensor, x: Tensor) -> Tensor:
    decay, step = decay[..., 1:], 1  # a_j of those j for which there is a y_{j-step}
    while step < x.size(-1):
        x = torch.cat((x[..., :step], torch.addcmul(x[..., step:], decay, x[..., :-step])), dim=-1)
        decay = decay[..., step:] * decay[..., :-step]
        step *= 2
    return x
