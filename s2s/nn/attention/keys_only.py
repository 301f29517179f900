"""Values that are made of keys, so that only keys are kept."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from s2s.errors import UserError
from s2s.nn.attention.head_linear import HeadLinear
from s2s.nn.attention.multi_head import Cached, MultiHead


class KeysOnly(MultiHead):
    """Slim attention (Graef and Wasielewski 2025, arXiv:2503.05840): V = K W_KV + b, of the keys K (T,D) of all heads.

    With W_KV = W_K⁻¹ W_V and b = b_V - b_K W_KV it is the multi-head attention of W_K and W_V; here W_KV is what is
    learned. As the weights of a query sum to one, P V = P (K W_KV) + b: for many queries W_KV is applied to the keys,
    for few to what they found, P K (their option 2), whichever costs less.

    Raises UserError unless the keys of all heads are as wide as the model. Keys must be those that values are made of:
    rotary positions, which turn them, are refused where the parts are put together, and so are weights that do not sum
    to one.
    """

    def __init__(self, model_dim: int, num_heads: int, head_dim: int | None = None) -> None:
        super().__init__(model_dim, num_heads, None, head_dim)
        if num_heads * self.head_dim != model_dim:
            raise UserError(
                f"projection=keys_only: num_heads={num_heads} of head_dim={self.head_dim} are not as wide as the "
                f"model, model_dim={model_dim}; expected num_heads * head_dim to be that"
            )
        self.value: HeadLinear = HeadLinear(model_dim, num_heads, self.head_dim)  # W_KV
        self.value_bias = nn.Parameter(torch.zeros(num_heads, 1, self.head_dim))  # b

    def cached(self, x: Tensor, positions: Tensor | None = None) -> Cached:
        """x (B,T,D) -> the keys of all heads side by side (B,1,T,D)."""
        return (self.key(x).unsqueeze(1),)

    def cached_shapes(self) -> list[tuple[int, int]]:
        return [(1, self.num_heads * self.head_dim)]

    def keys_values(self, *cached: Tensor, num_queries: int) -> tuple[Tensor, Tensor]:
        """Keys (B,H,T,d), and what is weighed: values (B,H,T,d), or the keys (B,1,T,D) for few queries."""
        keys = cached[0].squeeze(1)
        # A head of U queries takes U T D products to weigh all keys; T D d make its values, and U T d weigh them.
        if num_queries * (self.num_heads - 1) < keys.size(-1):
            return self.split(keys), cached[0]
        return self.split(keys), self.value.before(keys)

    def found(self, result: Tensor) -> Tensor:
        """(B,H,U,D) of keys or (B,H,U,d) of values -> (B,H,U,d)"""
        if result.size(-1) == self.num_heads * self.head_dim:
            result = self.value.after(result)
        return result + self.value_bias
