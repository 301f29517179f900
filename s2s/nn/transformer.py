"""The Transformer layer, of encoders and decoders alike."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from s2s.errors import UserError, nearest
from s2s.nn.attention.attention import Attention
from s2s.nn.attention.cache import HypothesisCache
from s2s.nn.attention.config import AttentionConfig
from s2s.nn.attention.multi_head import Cached
from s2s.nn.attention.multi_source import Look, MultiSource, SourcesConfig, memory_attention
from s2s.nn.attention.stop import Stops
from s2s.nn.dropout import Dropout
from s2s.nn.feed_forward import FeedForward, Shared
from s2s.nn.language_feed_forward import LanguageFeedForward, feed

Past = Callable[[Attention, Tensor], Tensor]  # what self-attention makes of x (A,U,D) and what it may see

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU}


def activation_module(name: str) -> nn.Module:
    """The activation of that name; UserError for one that is not known."""
    if name not in ACTIVATIONS:
        raise UserError(f"activation={name}: expected {', '.join(ACTIVATIONS)}.{nearest(name, ACTIVATIONS)}")
    return ACTIVATIONS[name]()


class TransformerLayer(nn.Module):
    """Self-attention, attention over a memory where it is `over_memory`, and feed-forward, each with a residual.

    A layer norm comes before each of them, or after the residual is added where not `pre_norm` (Vaswani et al. 2017).
    `feed_forward_dim` 0: no feed-forward. Where there is one `instead`, it takes the place of the layer's own. The
    memory may be of several `sources`.
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
        positions: str = "none",
        self_attention: AttentionConfig | None = None,
        cross_attention: AttentionConfig | None = None,
        instead: Shared | LanguageFeedForward | None = None,
        sources: SourcesConfig | None = None,
    ) -> None:
        super().__init__()
        self.pre_norm = pre_norm
        self.self_attention = Attention(model_dim, num_heads, dropout, self_attention, positions)
        if over_memory:
            self.memory_attention = memory_attention(model_dim, num_heads, dropout, cross_attention, sources)
        self.feed_forward: FeedForward | Shared | LanguageFeedForward | None = instead
        if instead is None and feed_forward_dim:
            self.feed_forward = FeedForward(model_dim, feed_forward_dim, dropout, activation_module(activation))
        self.norm_self = nn.LayerNorm(model_dim)
        if over_memory:
            self.norm_memory = nn.LayerNorm(model_dim)
            self.norm_sources: list[nn.LayerNorm] = nn.ModuleList(  # type: ignore[assignment]
                nn.LayerNorm(model_dim) for _ in self._looks()[1:]
            )
        if self.feed_forward is not None:
            self.norm_feed_forward = nn.LayerNorm(model_dim)
        self.dropout = Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        past: Past,
        memory: Cached | None = None,
        memory_mask: Tensor | None = None,
        need_weights: bool = False,
        stops: Stops | None = None,
        languages: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """x (A,U,D) over a memory of B utterances, A a multiple of B -> the same shape, and the weights if needed.

        The weights are (B,H,A/B*U,T). `stops` are as in `Attention.over`, `languages` (B,2) as in `feed`.
        """
        y = self._before(x, self.norm_self)
        x = self._after(x + self.dropout(past(self.self_attention, y)), self.norm_self)
        weights = None
        if memory is not None:
            found = []
            for look, norm in zip(self._looks(), (self.norm_memory, *self.norm_sources), strict=True):
                # All rows of one utterance attend as the queries of one sequence: its keys and values are read once.
                y = self._before(x, norm).view(memory[0].size(0), -1, x.size(-1))
                attended, weights = look(y, memory, memory_mask, need_weights, stops)
                x = self._after(x + self.dropout(attended).view_as(x), norm)
                found.append(weights)
            if weights is not None and len(found) > 1:
                weights = torch.stack(found).mean(dim=0)  # type: ignore[arg-type]
        if self.feed_forward is not None:
            y = self._before(x, self.norm_feed_forward)
            x = self._after(x + feed(self.feed_forward, y, languages), self.norm_feed_forward)
        return x, weights

    def _looks(self) -> list[Look]:
        """The attention over a memory, or those over its sources in turn."""
        own = self.memory_attention
        return own.looks() if isinstance(own, MultiSource) else [own.over]

    def kept(self, x: Tensor, sources: Tensor | None) -> Cached:
        """What the attention over a memory keeps of its frames x (B,T,D), which are of `sources` (B,T)."""
        own = self.memory_attention
        return own.project(x, sources) if isinstance(own, MultiSource) else own.project(x)

    def _before(self, x: Tensor, norm: nn.LayerNorm) -> Tensor:
        return norm(x) if self.pre_norm else x

    def _after(self, x: Tensor, norm: nn.LayerNorm) -> Tensor:
        return x if self.pre_norm else norm(x)


def before(attention: Attention, x: Tensor) -> Tensor:
    """The past of a decoder's layer that is given all tokens at once: of each, those before it, and itself."""
    return attention.within(x, causal=True)


def from_cache(cache: HypothesisCache, layer: int, mask: Tensor) -> Past:
    """The past of new tokens: what `mask` shows of a layer's cache, which the tokens enter."""
    return lambda attention, x: attention.after(x, cache, layer, mask)
