"""Weights in fewer bits."""

from __future__ import annotations

import warnings
from collections.abc import Callable
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


class Float16Linear(nn.Module):
    """A linear layer that computes in float32 with weights kept as float16, on a CPU.

    For a few rows a layer takes as long as its weights take to be read; half as many bytes are read in half the time.
    The layer can be used, not trained, saved or moved.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.packed = torch.ops.quantized.linear_prepack_fp16(weight.detach(), None if bias is None else bias.detach())

    def forward(self, x: Tensor) -> Tensor:
        """x (...,D) in float32 -> (...,D') in float32"""
        return torch.ops.quantized.linear_dynamic_fp16(x, self.packed)


class Float16Embedding(nn.Module):
    """An embedding whose vectors are kept as float16 and given as float32."""

    weight: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight.detach().half())

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens (...) -> (...,D)"""
        return nn.functional.embedding(tokens, self.weight).float()


def set_dtype(model: Model, dtype: str) -> Model:
    """The model with weights of a dtype, "int8" for 8-bit linear layers on a CPU; for use, not for training.

    With "float32" on a CPU those of a decoder that float16 holds exactly, as most published weights were, are kept
    so: what is computed is the same, sooner. Raises UserError for a dtype that is not known, and int8 elsewhere than on
    a CPU.
    """
    if dtype == INT8:
        device = next(model.parameters()).device
        if device.type != "cpu":
            raise UserError(f"dtype=int8 is for a CPU, the model is on {device}; use float16 or bfloat16 there")
        if not hasattr(torch, "quantize_per_channel"):
            raise UserError(f"dtype=int8: torch {torch.__version__} has no 8-bit linear layers any more; use float32")
        _replace(model.float(), Int8Linear)
        return model
    if dtype not in DTYPES:
        known = (*DTYPES, INT8)
        raise UserError(f"dtype={dtype}: expected one of {', '.join(known)}.{nearest(dtype, known)}")
    model = model.to(DTYPES[dtype])
    decoder = getattr(model, "decoder", None)
    if dtype == "float32" and isinstance(decoder, nn.Module) and _can_pack_float16(decoder):
        _replace(decoder, Float16Linear)
    return model


def _can_pack_float16(module: nn.Module) -> bool:
    """Whether all matrices of a module are float16 in fact, and torch has the kernels here."""
    matrices = [p for p in module.parameters() if p.dim() > 1]
    return (
        "fbgemm" in torch.backends.quantized.supported_engines
        and all(p.device.type == "cpu" for p in matrices)
        and all(torch.equal(p.half().float(), p) for p in matrices)
    )


def _replace(module: nn.Module, packed: Callable[[Tensor, Tensor | None], nn.Module]) -> None:
    """Put packed layers in the place of all linear ones, and of an embedding that is the output matrix too."""
    for name, child in module.named_children():
        if isinstance(child, nn.Linear):
            setattr(module, name, packed(child.weight, child.bias))
        else:
            _replace(child, packed)
    embedding = getattr(module, "embedding", None)
    if isinstance(embedding, nn.Embedding) and getattr(module, "out", embedding) is None:
        module.out = packed(embedding.weight, getattr(module, "out_bias", None))
        if torch.equal(embedding.weight.half().float(), embedding.weight):
            module.embedding = Float16Embedding(embedding.weight)
