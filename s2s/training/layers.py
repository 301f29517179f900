"""How the layers of a model are computed in training: kept for the backward pass or not, as they are or compiled."""

from __future__ import annotations

import os
import shutil
from functools import partial

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from s2s.errors import UserError

LISTS = ("blocks", "layers")  # of encoders and decoders


def recompute(model: nn.Module) -> None:
    """Keep nothing of a layer for the backward pass but what goes in, and compute it again there (Chen et al. 2016)."""
    for layer in layers_of(model):
        layer.forward = partial(checkpoint, type(layer).forward, layer, use_reentrant=False)


def compile_layers(model: nn.Module, backend: str) -> None:
    """Have `torch.compile` make each layer, if it can for any number of utterances and frames at once.

    Where its backend fixes them all the same, it makes as many as its `recompile_limit` says; then batches of other
    shapes run as they are. Raises UserError where inductor has no C++ compiler.
    """
    compilers = (os.environ.get("CXX", "g++"), "g++", "clang++", "cl")
    if backend == "inductor" and not any(map(shutil.which, compilers)):
        raise UserError(
            "training.compile=inductor: needs a C++ compiler, and there is none of "
            f"{', '.join(dict.fromkeys(compilers))}; install one, or leave it null"
        )
    for layer in layers_of(model):
        layer.compile(backend=backend, dynamic=True)


def layers_of(model: nn.Module) -> list[nn.Module]:
    """The layers of all encoders and decoders that are our own."""
    return [
        layer
        for module in model.modules()
        for name in LISTS
        if isinstance(layers := getattr(module, name, None), nn.ModuleList)
        for layer in layers
        if type(layer).__module__.startswith("s2s.")
    ]


def backends() -> list[str]:
    """What `torch.compile` can be told here."""
    return ["inductor", *(name for name in torch._dynamo.list_backends(None) if name in ("aot_eager", "eager"))]
