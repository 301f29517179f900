"""Keys and values made of a small vector that neighbours in time share."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from s2s.nn.attention.head_linear import HeadLinear
from s2s.nn.attention.multi_head import Cached, MultiHead
from s2s.nn.positions import sinusoidal

if TYPE_CHECKING:
    from s2s.nn.attention.cache import HypothesisCache


class TemporalLatent(MultiHead):
    """Multi-head temporal latent attention, MTLA (Deng and Woodland 2025, arXiv:2505.13544), of tokens to those before.

    Token i has a latent c_i = LayerNorm(W x_i) of size r and belongs to chunk j = ⌊i/s⌋ of s=`stride` tokens. A
    hyper-network gives its weight w_i = σ(A c_i · B p_j), p_j the sinusoids of j. Tokens of a chunk share ĉ, the sum of
    w_k c_k from its first token up to the newest, and a query sees the ĉ of chunks that are full and that of its own as
    far as its own token (the stride-aware causal mask). Keys and values of a head are W_K ĉ and W_V ĉ.

    What is attended to is ĉ itself, one head of size r: W_K is applied to queries and W_V to what they found. U queries
    of T latents so take 2 U T r products a head; keys and values of all latents would take 2 T r d, and 2 U T d then.

    Differs from the paper's in the positions: they are added to the input, or to scores ("relative", of size r, and
    "alibi", where ĉ is where its newest token is). Rotary ones, which need keys of their own beside the latent, are
    refused where the parts are put together.
    """

    def __init__(
        self,
        model_dim: int,
        num_heads: int,
        head_dim: int | None = None,
        latent_dim: int | None = None,
        stride: int = 2,
    ) -> None:
        super().__init__(model_dim, num_heads, None, head_dim)
        self.stride, self.width = stride, latent_dim or 4 * self.head_dim
        self.latent, self.norm = nn.Linear(model_dim, self.width), nn.LayerNorm(self.width)
        self.key: HeadLinear = HeadLinear(self.width, num_heads, self.head_dim)  # W_K
        self.value: HeadLinear = HeadLinear(self.width, num_heads, self.head_dim)  # W_V
        hidden = max(1, self.width // 4)
        self.content_weight, self.chunk_weight = (nn.Linear(self.width, hidden) for _ in range(2))  # A, B

    def queries(self, x: Tensor) -> Tensor:
        """x (B,U,D) -> (B,H,U,r), scaled so that q·ĉ / √r is that of heads, (W_Q x)·(W_K ĉ) / √d"""
        return self.key.transposed(super().queries(x)) * math.sqrt(self.width / self.head_dim)

    def cached(self, x: Tensor, positions: Tensor | None = None) -> Cached:
        """x (B,T,D) at positions (T,) or (B,T) -> w_i c_i of each (B,1,T,r)"""
        assert positions is not None
        latent = self.norm(self.latent(x))
        chunks = sinusoidal(positions // self.stride, self.width)[..., : self.width].to(latent.dtype)
        weight = (self.content_weight(latent) * self.chunk_weight(chunks)).sum(dim=-1, keepdim=True).sigmoid()
        return ((weight * latent).unsqueeze(1),)

    def cached_shapes(self) -> list[tuple[int, int]]:
        return [(1, self.width)]

    def whole(self, cached: Cached) -> Cached:
        """w_i c_i of whole sequences (B,1,T,r) -> ĉ as far as each token."""
        (latents,) = cached
        num_tokens = latents.size(2)
        chunks = F.pad(latents, (0, 0, 0, -num_tokens % self.stride)).unflatten(2, (-1, self.stride))
        return (chunks.cumsum(dim=3).flatten(2, 3)[:, :, :num_tokens],)

    def grown(self, cached: Cached, cache: HypothesisCache, layer: int, mask: Tensor) -> Cached:
        """w_i c_i of new tokens (B,1,U,r) -> ĉ as far as each, with that of the token before them, in the cache.

        Tokens that are given together and see each other are in their order.
        """
        (kept,), new = cache.write(layer, cached), cached[0].size(2)  # (B,1,P,r), the new ones at the end
        slots, tokens = cache.used_slot_positions.unsqueeze(1), cache.new_positions.unsqueeze(2)
        is_new = torch.arange(kept.size(2), device=kept.device) >= kept.size(2) - new
        before = tokens - (mask[:, 0] & is_new).sum(dim=2, keepdim=True)  # the last that is not new
        summed = mask[:, 0] & (slots // self.stride == tokens // self.stride) & (is_new | (slots == before))
        return (summed.unsqueeze(1).to(kept.dtype) @ kept,)

    def keys_values(self, *cached: Tensor, num_queries: int) -> tuple[Tensor, Tensor]:
        """ĉ (B,1,T,r), which is both."""
        return cached[0], cached[0]

    def shown(self, query_positions: Tensor, key_positions: Tensor) -> Tensor:
        """Ends of chunks, and the query's own place (..,U,T)."""
        query, key = query_positions.unsqueeze(-1), key_positions.unsqueeze(-2)
        return (key % self.stride == self.stride - 1) | (key == query)

    def found(self, result: Tensor) -> Tensor:
        """(B,H,U,r) of ĉ -> (B,H,U,d) of values"""
        return self.value.after(result)
