"""Weights in fewer bits."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

from s2s.errors import UserError, nearest

Model = TypeVar("Model", bound=nn.Module)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def set_dtype(model: Model, dtype: str) -> Model:
    """The model with weights of a dtype; UserError for one that is not known."""
    if dtype not in DTYPES:
        raise UserError(f"dtype={dtype}: expected one of {', '.join(DTYPES)}.{nearest(dtype, DTYPES)}")
    return model.to(DTYPES[dtype])
