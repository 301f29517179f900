"""Attention of recurrent decoders, which may know where it looked before."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from s2s.errors import UserError
from s2s.nn.attention.multi_head import Cached
from s2s.nn.attention.scores import mixed, opened
from s2s.nn.dropout import dropped


class AdditiveAttention(nn.Module):
    """Attention to a memory by a layer of tanh (Bahdanau et al. 2015, arXiv:1409.0473, A.1.2), of H heads.

    The scores of frame t for query s_i are vᵀ tanh(W_s s_i + W_h h_t + W_β β_it), of which a softmax over frames makes
    the weights α_it of sums of the states h_t themselves, each head of its part of them. Where there is
    `weight_feedback`, β_it = σ(v_βᵀ h_t) Σ_k<i α_kt, and else 0 (Zeyer et al. 2018, arXiv:1805.03294, section 2).
    """

    def __init__(
        self,
        model_dim: int,
        memory_dim: int,
        num_heads: int = 1,
        dropout: float = 0.0,
        weight_feedback: bool = False,
    ) -> None:
        super().__init__()
        if memory_dim % num_heads:
            raise UserError(f"num_heads={num_heads}: the memory's {memory_dim} dimensions do not divide into so many")
        self.num_heads, self.dropout = num_heads, dropout
        self.query = nn.Linear(model_dim, model_dim, bias=False)
        self.key = nn.Linear(memory_dim, model_dim)
        self.score = nn.Linear(model_dim, num_heads, bias=False)
        self.feedback: nn.Linear | None = None
        if weight_feedback:
            self.feedback = nn.Linear(num_heads, model_dim, bias=False)
            self.inverse_fertility = nn.Linear(memory_dim, num_heads, bias=False)

    def project(self, states: Tensor) -> Cached:
        """states (B,T,M) -> keys (B,1,T,D), values (B,H,T,M/H) and, for weight feedback, σ(v_βᵀ h_t) (B,H,T,1)."""
        keys, values = self.key(states).unsqueeze(1), states.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        if self.feedback is None:
            return keys, values
        return keys, values, self.inverse_fertility(states).sigmoid().transpose(1, 2).unsqueeze(-1)

    def over(self, x: Tensor, cached: Cached, bias: Tensor | None, attended: Tensor) -> tuple[Tensor, Tensor]:
        """Attention of x (B,U,D) to a memory that `project` made -> (B,U,M) and weights (B,H,U,T).

        `bias` is as in `Softmax.forward`, (B,1,1,T). `attended` (B,H,U,T) are the sums of each query's weights before,
        which nobody looks at without weight feedback. Memory grows with U times T times D.
        """
        fed = None
        if self.feedback is not None:
            fed = self.feedback((attended * cached[2].transpose(-2, -1)).permute(0, 2, 3, 1))
        scores, shown = opened(self.scores(x, cached[0], fed), bias)
        if shown is None:
            weights = scores.softmax(dim=-1)
        else:
            # A finite number instead of -inf: a row of these alone has weights too, which are taken away.
            weights = scores.masked_fill(~shown, torch.finfo(scores.dtype).min).softmax(dim=-1).masked_fill(~shown, 0.0)
        mixing = dropped(weights, self.dropout, self.training)
        return mixed(mixing, cached[1]).transpose(1, 2).flatten(2), weights

    def scores(self, x: Tensor, keys: Tensor, fed: Tensor | None = None) -> Tensor:
        """Scores (B,H,U,T) of queries x (B,U,D) and keys (B,1,T,D), with weight feedback (B,U,T,D) within the tanh."""
        hidden = self.query(x).unsqueeze(2) + keys  # (B,U,T,D)
        return self.score((hidden if fed is None else hidden + fed).tanh()).permute(0, 3, 1, 2)
