"""Scores of queries and keys, where several heads of queries may share a head of keys and values."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def fold(x: Tensor, heads: int) -> Tensor:
    """(B,H,U,d) -> (B,heads,H/heads*U,d): the heads that share keys become rows of one product."""
    return x if x.size(1) == heads else x.unflatten(1, (heads, -1)).flatten(2, 3)


def unfold(x: Tensor, heads: int) -> Tensor:
    """The reverse of `fold`: -> (B,heads,U,d)"""
    return x if x.size(1) == heads else x.unflatten(2, (heads // x.size(1), -1)).flatten(1, 2)


def fold_bias(bias: Tensor, num_heads: int, heads: int) -> Tensor:
    """What is added to scores (B,H,U,T), or a part of it that broadcasts, as `fold` arranges their rows."""
    if num_heads == heads or (bias.size(1) == 1 and bias.size(2) == 1):
        return bias
    return fold(bias.expand(-1, num_heads, -1, -1), heads)


def scored(query: Tensor, keys: Tensor) -> Tensor:
    """Q Kᵀ / √d of query (B,H,U,d), keys (B,H',T,d) -> (B,H,U,T) (Vaswani et al. 2017, eq. 1)."""
    query, num_heads = query / math.sqrt(query.size(-1)), query.size(1)  # smaller than the scores
    return unfold(fold(query, keys.size(1)) @ keys.transpose(-2, -1), num_heads)


def mixed(weights: Tensor, values: Tensor) -> Tensor:
    """weights (B,H,U,T), values (B,H',T,d) -> their weighted sums (B,H,U,d)"""
    return unfold(fold(weights, values.size(1)) @ values, weights.size(1))


def opened(scores: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Scores (B,H,U,T) with `bias`, bool or additive -> scores, and which of them count (bool), None for all."""
    if bias is None:
        return scores, None
    if bias.dtype == torch.bool:
        return scores, bias
    shown = bias > float("-inf")
    return scores + bias.masked_fill(~shown, 0.0), shown


def normalised(scores: Tensor, shown: Tensor | None, transform: Callable[[Tensor], Tensor]) -> Tensor:
    """`transform` of scores (B,H,U,T) to weights, those that do not count zero; all of them where none counts."""
    if shown is None:
        return transform(scores)
    closed = ~shown & shown.any(dim=-1, keepdim=True)  # not of a row in which all are: it would be NaN
    return transform(scores.masked_fill(closed, float("-inf"))).masked_fill(~shown, 0.0)


def count_bias(counts: Tensor, like: Tensor) -> Tensor:
    """The bias of keys that each stand for several alike: the log of how many, -inf for none.

    A mask, bool, is its own bias. Counts above one are exact for softmax, and for no other weighting.
    """
    return counts if counts.dtype == torch.bool else counts.to(like.dtype).log()


def key_bias(counts: Tensor, like: Tensor) -> Tensor | None:
    """The bias (B,1,1,T) of keys that stand for `counts` (B,T) frames each; None where each is just one.

    Without padding there is no need of a mask, and attention is quicker without.
    """
    if not torch.compiler.is_compiling() and bool((counts == 1).all()):
        return None
    return count_bias(counts, like)[:, None, None, :]


def both(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    """Two biases as one: bool where both are."""
    if a is None or b is None:
        return b if a is None else a
    if a.dtype == torch.bool and b.dtype == torch.bool:
        return a & b
    if a.dtype == torch.bool:
        a, b = b, a
    return a.masked_fill(~b, float("-inf")) if b.dtype == torch.bool else a + b


def side_by_side(biases: Sequence[Tensor | None], columns: Sequence[Tensor]) -> Tensor | None:
    """Biases of several stretches of keys, each broadcasting to (B,H,U,T_i), T_i = len(columns[i]), as one."""
    if len(biases) == 1:
        return biases[0]
    if all(bias is None for bias in biases):
        return None
    dtype = next((bias.dtype for bias in biases if bias is not None and bias.dtype != torch.bool), torch.bool)
    parts = []
    for bias, column in zip(biases, columns, strict=True):
        if bias is None or (bias.dtype == torch.bool and dtype != torch.bool):
            open_ = torch.zeros(1, 1, 1, len(column), dtype=dtype, device=column.device)
            bias = open_ if bias is None else open_.masked_fill(~bias, float("-inf"))
            bias = ~bias if dtype == torch.bool else bias
        parts.append(bias)
    sizes = torch.broadcast_shapes(*(part.shape[:3] for part in parts))
    return torch.cat([part.expand(*sizes, -1) for part in parts], dim=-1)
