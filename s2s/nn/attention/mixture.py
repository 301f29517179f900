"""Heads that each query chooses."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from s2s.errors import UserError


class Mixture(nn.Module):
    """Every query uses the first `shared_heads` heads, and of the others the `active_heads` that a router likes best.

    Mixture-of-head attention (Jin et al. 2024, arXiv:2410.11842, eq. 5 and 6; Zhang et al. 2022, arXiv:2210.05144): the
    weight of a shared head i is α₁ softmax(W_s x)_i, that of a chosen one α₂ softmax(W_r x)_i, of all others zero, with
    [α₁, α₂] = softmax(W_h x), and α₂ = 1 where no head is shared. Each softmax is multiplied by how many it is over:
    weights are one where the router prefers nothing, as in multi-head attention. All heads are computed, so it saves no
    time. The paper's load balance loss is left out: it is a mean over tokens, and which are padding is not known here.

    Raises UserError where there are fewer heads than that.
    """

    def __init__(self, model_dim: int, num_heads: int, active_heads: int, shared_heads: int = 0) -> None:
        super().__init__()
        if active_heads + shared_heads > num_heads:
            raise UserError(
                f"active_heads={active_heads}: with shared_heads={shared_heads} these are more than the "
                f"num_heads={num_heads} there are"
            )
        self.active_heads = active_heads
        self.sizes = (shared_heads, num_heads - shared_heads, 2 if shared_heads else 0)
        self.router = nn.Linear(model_dim, sum(self.sizes), bias=False)  # W_s, W_r and W_h, one below the other

    def forward(self, x: Tensor, results: Tensor) -> Tensor:
        """Queries x (B,U,D), results (B,H,U,d) of heads -> the same shape."""
        return results * self.weights(x).transpose(1, 2).unsqueeze(-1)

    def weights(self, x: Tensor) -> Tensor:
        """x (B,U,D) -> the weight of each head (B,U,H)"""
        shared, routed, kinds = (
            logits.softmax(dim=-1) * logits.size(-1) for logits in self.router(x).split(self.sizes, dim=-1)
        )
        chosen = torch.zeros_like(routed, dtype=torch.bool)
        chosen = chosen.scatter(-1, routed.topk(self.active_heads, dim=-1).indices, True)
        routed = routed.masked_fill(~chosen, 0.0)
        if not self.sizes[0]:
            return routed
        return torch.cat((kinds[..., :1] * shared, kinds[..., 1:] * routed), dim=-1)
