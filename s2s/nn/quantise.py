"""Weights in fewer bits."""

from __future__ import annotations

import warnings
from typing import TypeVar

import torch
from torch import Tensor, nn

from s2s.errors import UserError, nearest

Model = TypeVar("Model", bound=nn.Module)

INT8 = "int8"
DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Int8Linear(nn.Module):
    """A linear layer with 8-bit weights, one scale for each output, on a CPU.

    Its input is rounded to 7 bits with a scale of its own each time, as processors without 8-bit dot products need. The
    weights are packed: the layer can be used, not trained, saved or moved.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        weight = weight.detach().float().cpu()
        scales = weight.abs().amax(dim=1).clamp(min=1e-12) / 127
        zeros = torch.zeros(len(scales), dtype=torch.long)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # torch means to take these functions out some day
            quantised = torch.quantize_per_channel(weight, scales, zeros, 0, torch.qint8)
        self.packed = torch.ops.quantized.linear_prepack(quantised, None if bias is None else bias.detach().float())

    def forward(self, x: Tensor) -> Tensor:
        """x (...,D) in float32 -> (...,D') in float32"""
        return torch.ops.quantized.linear_dynamic(x, self.packed, reduce_range=True)


def set_dtype(model: Model, dtype: str) -> Model:
    """The model with weights of a dtype, "int8" for 8-bit linear layers on a CPU; for use, not for training.

    Raises UserError for a dtype that is not known, and int8 elsewhere than on a CPU.
    """
    if dtype == INT8:
        device = next(model.parameters()).device
        if device.type != "cpu":
            raise UserError(f"dtype=int8 is for a CPU, the model is on {device}; use float16 or bfloat16 there")
        if not hasattr(torch, "quantize_per_channel"):
            raise UserError(f"dtype=int8: torch {torch.__version__} has no 8-bit linear layers any more; use float32")
        _to_int8(model.float())
        return model
    if dtype not in DTYPES:
        known = (*DTYPES, INT8)
        raise UserError(f"dtype={dtype}: expected one of {', '.join(known)}.{nearest(dtype, known)}")
    return model.to(DTYPES[dtype])


def _to_int8(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.Linear):
            setattr(module, name, Int8Linear(child.weight, child.bias))
        else:
            _to_int8(child)
    embedding = getattr(module, "embedding", None)
    if isinstance(embedding, nn.Embedding) and getattr(module, "out", embedding) is None:  # it is the output matrix too
        module.out = Int8Linear(embedding.weight, getattr(module, "out_bias", None))
