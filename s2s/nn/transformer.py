"""The Transformer layer, of encoders and decoders alike."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from s2s.errors import UserError, nearest
from s2s.nn.attention.cache import HypothesisCache
from s2s.nn.attention.multi_head import MultiHeadAttention
from s2s.nn.feed_forward import FeedForward

KeysValues = tuple[Tensor, Tensor]
Past = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor | None]]

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU}


def activation_module(name: str) -> nn.Module:
    """The activation of that name; UserError for one that is not known."""
    if name not in ACTIVATIONS:
        raise UserError(f"activation={name}: expected {', '.join(ACTIVATIONS)}.{nearest(name, ACTIVATIONS)}")
    return ACTIVATIONS[name]()


class TransformerLayer(nn.Module):
    """Self-attention, attention over a memory where it is `over_memory`, and feed-forward, each with a residual.

    A layer norm comes before each of them, or after the residual is added where not `pre_norm` (Vaswani et al. 2017).
    """

    def __init__(
        self,
        model_dim: int,
        num_heads: int,
        feed_forward_dim: int,
        dropout: float,
        over_memory: bool = True,
        activation: str = "relu",
        pre_norm: bool = True,
    ) -> None:
        super().__init__()
        self.pre_norm = pre_norm
        self.self_attention = MultiHeadAttention(model_dim, num_heads, dropout)
        if over_memory:
            self.memory_attention = MultiHeadAttention(model_dim, num_heads, dropout)
        self.feed_forward = FeedForward(model_dim, feed_forward_dim, dropout, activation_module(activation))
        self.norm_self = nn.LayerNorm(model_dim)
        if over_memory:
            self.norm_memory = nn.LayerNorm(model_dim)
        self.norm_feed_forward = nn.LayerNorm(model_dim)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        past: Past,
        memory: KeysValues | None = None,
        memory_mask: Tensor | None = None,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """x (A,U,D) over a memory of B utterances, A a multiple of B -> the same shape, and the weights if needed.

        The weights are (B,H,A/B*U,T). `past` turns the keys and values of x into those to attend to and a mask.
        """
        y = self._before(x, self.norm_self)
        keys, values, mask = past(*self.self_attention.heads.keys_values(y))
        x = self._after(x + self.dropout(self.self_attention(y, keys, values, mask)[0]), self.norm_self)
        weights = None
        if memory is not None:
            # All rows of one utterance attend as the queries of one sequence, so its keys and values are read once.
            y = self._before(x, self.norm_memory).view(memory[0].size(0), -1, x.size(-1))
            attended, weights = self.memory_attention(y, *memory, memory_mask, need_weights)
            x = self._after(x + self.dropout(attended).view_as(x), self.norm_memory)
        y = self._before(x, self.norm_feed_forward)
        return self._after(x + self.feed_forward(y), self.norm_feed_forward), weights

    def _before(self, x: Tensor, norm: nn.LayerNorm) -> Tensor:
        return norm(x) if self.pre_norm else x

    def _after(self, x: Tensor, norm: nn.LayerNorm) -> Tensor:
        return x if self.pre_norm else norm(x)


def everything(mask: Tensor | None) -> Past:
    """The past of a layer that sees all positions, those that `mask` (broadcast to (A,H,U,U)) shows: an encoder's."""
    return lambda keys, values: (keys, values, mask)


def all_at_once(tokens: Tensor) -> Past:
    """The past of every one of tokens (A,U): those before it, and itself."""
    causal = torch.ones(tokens.size(1), tokens.size(1), dtype=torch.bool, device=tokens.device).tril()
    return lambda keys, values: (keys, values, causal)


def from_cache(cache: HypothesisCache, layer: int, mask: Tensor) -> Past:
    """The past of new tokens: what `mask` shows of a layer's cache, which the tokens enter."""
    return lambda keys, values: (*cache.write(layer, keys, values), mask)
