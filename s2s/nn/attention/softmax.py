"""Scores to weights by softmax, fused where the weights are not asked for."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from s2s.nn.attention.scores import fold, fold_bias, mixed, scored, unfold
from s2s.nn.dropout import dropped


class Softmax(nn.Module):
    """softmax(Q Kᵀ / √d + bias) V (Vaswani et al. 2017, eq. 1)."""

    def forward(
        self,
        query: Tensor,
        keys: Tensor,
        values: Tensor,
        bias: Tensor | None,
        dropout: float = 0.0,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """query (B,H,U,d), keys and values (B,H',T,d) -> (B,H,U,d) and, on request, weights (B,H,U,T) before dropout.

        `bias` broadcasts to (B,H,U,T): bool (True attends) or additive.
        """
        slow = dropout > 0.0 and query.device.type == "cpu"  # then the fused form is not fused
        if not need_weights and not slow and keys.size(1) == values.size(1):
            num_heads, heads = query.size(1), keys.size(1)
            bias = None if bias is None else fold_bias(bias, num_heads, heads)
            result = F.scaled_dot_product_attention(fold(query, heads), keys, values, attn_mask=bias, dropout_p=dropout)
            return unfold(result, num_heads), None
        weights = softmax(scored(query, keys), bias)
        return mixed(dropped(weights, dropout), values), weights


def softmax(scores: Tensor, bias: Tensor | None) -> Tensor:
    """Softmax of scores (B,H,U,T) with `bias`, bool or additive; the weights of a row in which nothing counts are zero.

    The same as `normalised`, in fewer passes over what is the largest tensor of a layer.
    """
    if bias is None or not scores.size(-1):
        return scores.softmax(dim=-1)
    scores = scores.masked_fill(~bias, float("-inf")) if bias.dtype == torch.bool else scores + bias
    closed = scores.detach().amax(dim=-1, keepdim=True) == float("-inf")  # rows that would be NaN
    if scores.device.type == "cpu" and not torch.compiler.is_compiling() and not bool(closed.any()):
        return scores.softmax(dim=-1)
    return scores.masked_fill(closed, 0.0).softmax(dim=-1).masked_fill(closed, 0.0)
