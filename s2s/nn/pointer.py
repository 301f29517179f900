"""Pointing at frames of a memory."""

from __future__ import annotations

from torch import Tensor, nn

from s2s.nn.attention.additive import AdditiveAttention


class Pointer(nn.Module):
    """Which frame comes next: attention whose weights are the answer (Vinyals et al. 2015, arXiv:1506.03134, eq. 3).

    u_ij = vᵀ tanh(W_1 e_j + W_2 d_i + b) for frame e_j and query d_i, and p(C_i = j) = softmax(u_i)_j.
    """

    def __init__(self, model_dim: int, memory_dim: int) -> None:
        super().__init__()
        self.attention = AdditiveAttention(model_dim, memory_dim)

    def project(self, states: Tensor) -> Tensor:
        """states (B,T,M) -> keys (B,T,D)"""
        return self.attention.project(states)[0].squeeze(1)

    def forward(self, x: Tensor, keys: Tensor, shown: Tensor) -> Tensor:
        """Queries x (B,U,D), keys (B,T,D), frames that may be pointed at (B,T) bool -> log-probabilities (B,U,T)."""
        scores = self.attention.scores(x, keys.unsqueeze(1)).squeeze(1)
        return scores.masked_fill(~shown.unsqueeze(1), float("-inf")).log_softmax(dim=-1)
