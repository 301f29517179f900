"""Attention written out, one query of one head at a time, and the masks to try it with."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

BIASES = ("none", "padding", "of queries", "additive")


def inputs(num_heads: int = 4, kv_heads: int = 2, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Random query (2,H,3,4), keys and values (2,H',5,4), float64."""
    generator = torch.Generator().manual_seed(seed)
    shapes = ((2, num_heads, 3, 4), (2, kv_heads, 5, 4), (2, kv_heads, 5, 4))
    query, keys, values = (2 * torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
    return query, keys, values


def bias_of(kind: str, num_heads: int = 4) -> Tensor | None:
    """A bias for `inputs`: of keys, of keys and queries, or added to the scores of each head; no row is empty."""
    shown = torch.tensor([[True, True, True, True, True], [True, True, False, False, False]])[:, None, None]
    if kind == "padding":
        return shown
    if kind == "of queries":
        return shown & torch.ones(3, 5, dtype=torch.bool).tril()
    if kind == "additive":
        added = torch.randn(2, num_heads, 3, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        return added.masked_fill(~shown, float("-inf"))
    return None


def plain(
    query: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None, weigh: Callable[[Tensor, int], Tensor]
) -> tuple[Tensor, Tensor]:
    """Results and weights; `weigh` has the scores of the keys that count for a query, and the head -> their weights."""
    B, H, U, d = query.shape
    T, group = keys.size(2), query.size(1) // keys.size(1)
    result, weights = torch.zeros(B, H, U, values.size(-1)).double(), torch.zeros(B, H, U, T).double()
    bias = torch.zeros(()).double() if bias is None else bias
    if bias.dtype == torch.bool:
        bias = torch.where(bias, 0.0, float("-inf")).double()
    bias = bias.expand(B, H, U, T)
    for b in range(B):
        for h in range(H):
            for u in range(U):
                open_ = [t for t in range(T) if bias[b, h, u, t] > float("-inf")]
                scores = [query[b, h, u] @ keys[b, h // group, t] / math.sqrt(d) + bias[b, h, u, t] for t in open_]
                for t, weight in zip(open_, weigh(torch.stack(scores), h), strict=True):
                    weights[b, h, u, t] = weight
                    result[b, h, u] += weight * values[b, h // group, t]
    return result, weights
