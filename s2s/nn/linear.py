"""A linear layer whose training costs a CPU less."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_FEWEST_ROWS = 64  # of which a product gains anything
_PRODUCT: Any = getattr(torch.ops.mkldnn, "_linear_pointwise", None)  # not in every build of torch


class Linear(nn.Linear):
    """x (...,C) -> (...,D), in training on a CPU by the products of oneDNN.

    Torch multiplies float32 matrices with MKL, which leaves a fifth of the time unused where the processor is not
    Intel's. The result is the same but for the order of the sums.
    """

    def forward(self, x: Tensor) -> Tensor:
        suits = x.device.type == "cpu" and x.dtype == self.weight.dtype == torch.float32
        if (
            not (suits and _PRODUCT is not None and torch.is_grad_enabled())
            or torch.compiler.is_compiling()
            or torch.is_autocast_enabled("cpu")
            or x.numel() < _FEWEST_ROWS * self.in_features
            or not (x.requires_grad or self.weight.requires_grad)
        ):
            return F.linear(x, self.weight, self.bias)
        return _Affine.apply(x.flatten(0, -2), self.weight, self.bias).unflatten(0, x.shape[:-1])


class _Affine(torch.autograd.Function):
    """x Wᵀ + b of x (N,C), W (D,C), b (D,) or None."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _times_transposed(x, weight, bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        return (
            _times_transposed(grad, weight.t()) if of_x else None,
            _times_transposed(grad.t(), x.t()) if of_weight else None,
            grad.sum(0) if of_bias else None,
        )


def _times_transposed(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """a bᵀ + bias"""
    return _PRODUCT(a, b, bias, "none", [], "")
