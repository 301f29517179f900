"""Tensors with rows first, of utterances that come and go."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def join_rows(a: Tensor, b: Tensor) -> Tensor:
    """a (N,...), b (M,...) -> (N+M,...), the other dimensions padded at their ends with zeros to the larger size."""
    sizes = [max(x, y) for x, y in zip(a.shape[1:], b.shape[1:], strict=True)]
    return torch.cat([_pad(a, sizes), _pad(b, sizes)])


def _pad(x: Tensor, sizes: list[int]) -> Tensor:
    if list(x.shape[1:]) == sizes:
        return x
    padding = [n for size, own in zip(reversed(sizes), reversed(x.shape[1:]), strict=True) for n in (0, size - own)]
    return F.pad(x, padding)
