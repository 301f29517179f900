"""The Transformer decoder: parallel for training, a token at a time for search."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from s2s.models.memory import Memory
from s2s.nn.attention.cache import HypothesisCache
from s2s.nn.attention.multi_head import MultiHeadAttention
from s2s.nn.feed_forward import FeedForward
from s2s.nn.lengths import valid_mask
from s2s.nn.positions import sinusoidal
from s2s.nn.rows import join_rows

KeysValues = tuple[Tensor, Tensor]
Past = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]


@dataclass
class TransformerDecoderState:
    """The past of N = B*K hypotheses, and the memory's keys and values, once per utterance."""

    past: HypothesisCache
    memory_keys: Tensor  # (B,L,H,T,d)
    memory_values: Tensor  # (B,L,H,T,d)
    memory_mask: Tensor  # (B,1,1,T) bool
    need_attention: bool = False
    attention: Tensor | None = None  # (B,K,T) of the last step, the mean of layers and heads, where asked for


class TransformerDecoderLayer(nn.Module):
    """Self-attention, attention over the memory, feed-forward, each after a layer norm (pre-norm).

    A layer of a language model is not `over_memory` and has nothing for it.
    """

    def __init__(
        self, model_dim: int, num_heads: int, feed_forward_dim: int, dropout: float, over_memory: bool = True
    ) -> None:
        super().__init__()
        self.self_attention = MultiHeadAttention(model_dim, num_heads, dropout)
        if over_memory:
            self.memory_attention = MultiHeadAttention(model_dim, num_heads, dropout)
        self.feed_forward = FeedForward(model_dim, feed_forward_dim, dropout, nn.ReLU())
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
        y = self.norm_self(x)
        keys, values, mask = past(*self.self_attention.heads.keys_values(y))
        x = x + self.dropout(self.self_attention(y, keys, values, mask)[0])
        weights = None
        if memory is not None:
            # All rows of one utterance attend as the queries of one sequence, so its keys and values are read once.
            y = self.norm_memory(x).view(memory[0].size(0), -1, x.size(-1))
            attended, weights = self.memory_attention(y, *memory, memory_mask, need_weights)
            x = x + self.dropout(attended).view_as(x)
        return x + self.feed_forward(self.norm_feed_forward(x)), weights


def embed(embedding: nn.Embedding, tokens: Tensor, positions: Tensor) -> Tensor:
    """tokens (A,U), positions (A,U) or (U,) -> (A,U,D) (Vaswani et al. 2017, sections 3.4 and 3.5)"""
    x = embedding(tokens)
    return x * math.sqrt(x.size(-1)) + sinusoidal(positions, x.size(-1)).to(x.dtype)


def all_at_once(tokens: Tensor) -> Past:
    """The past of every one of tokens (A,U): those before it, and itself."""
    causal = torch.ones(tokens.size(1), tokens.size(1), dtype=torch.bool, device=tokens.device).tril()
    return lambda keys, values: (keys, values, causal)


def one_at_a_time(cache: HypothesisCache, layer: int, mask: Tensor) -> Past:
    """The past of one new token of each hypothesis: what `mask` shows of a layer's cache, which the token enters."""
    return lambda keys, values: (*cache.write(layer, keys, values), mask)


class TransformerDecoder(nn.Module):
    """Predicts the next token from the tokens so far and a memory (Vaswani et al. 2017, section 3.1, pre-norm)."""

    def __init__(
        self,
        vocab_size: int,
        memory_dim: int,
        model_dim: int = 256,
        num_layers: int = 6,
        num_heads: int = 4,
        feed_forward_dim: int = 2048,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.embedding = nn.Embedding(vocab_size, model_dim)
        nn.init.normal_(self.embedding.weight, std=model_dim**-0.5)
        self.memory_projection = nn.Linear(memory_dim, model_dim) if memory_dim != model_dim else nn.Identity()
        self.layers: list[TransformerDecoderLayer] = nn.ModuleList(  # type: ignore[assignment]
            TransformerDecoderLayer(model_dim, num_heads, feed_forward_dim, dropout) for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(model_dim)
        self.out = nn.Linear(model_dim, vocab_size)
        self.dropout = nn.Dropout(dropout)

    def _memory(self, memory: Memory) -> tuple[list[KeysValues], Tensor]:
        """Keys and values (B,H,T,d) of every layer, and the mask (B,1,1,T) of real frames."""
        states = self.memory_projection(memory.states)
        pairs = [layer.memory_attention.heads.keys_values(states) for layer in self.layers]
        return pairs, valid_mask(memory.lengths, states.size(1))[:, None, None, :]

    def forward(self, memory: Memory, tokens: Tensor) -> Tensor:
        """tokens (N,U) from bos on, N a multiple of B -> log-probabilities (N,U,V) of each next token"""
        return self._parallel(memory, tokens, need_weights=False)[0]

    def attention(self, memory: Memory, tokens: Tensor) -> Tensor:
        """tokens (N,U) from bos on -> where each looked (N,U,T): the mean weights of all layers and heads."""
        weights = self._parallel(memory, tokens, need_weights=True)[1]
        return torch.stack(weights).mean(dim=(0, 2)).view(*tokens.shape, -1)

    def _parallel(self, memory: Memory, tokens: Tensor, need_weights: bool) -> tuple[Tensor, list[Tensor]]:
        x = self.dropout(embed(self.embedding, tokens, torch.arange(tokens.size(1), device=tokens.device)))
        past = all_at_once(tokens)
        pairs, mask = self._memory(memory)
        all_weights = []
        for layer, pair in zip(self.layers, pairs, strict=True):
            x, weights = layer(x, past, pair, mask, need_weights)
            all_weights += [weights] if need_weights else []
        return self.out(self.norm(x)).log_softmax(dim=-1), all_weights

    def start(self, memory: Memory, beam_size: int, need_attention: bool = False) -> TransformerDecoderState:
        """State of N = B * beam_size rows."""
        pairs, mask = self._memory(memory)
        heads = self.layers[0].self_attention.heads
        return TransformerDecoderState(
            past=HypothesisCache.empty(pairs[0][0], beam_size, len(self.layers), heads.num_heads, heads.head_dim),
            memory_keys=torch.stack([keys for keys, _ in pairs], dim=1),
            memory_values=torch.stack([values for _, values in pairs], dim=1),
            memory_mask=mask,
            need_attention=need_attention,
        )

    def step(self, tokens: Tensor, state: TransformerDecoderState) -> tuple[Tensor, TransformerDecoderState]:
        """Last tokens (N,) -> log-probabilities (N,V) of the next; a token of -1 leaves its row as it was."""
        past = state.past
        grid = past.positions.shape
        x = self.dropout(embed(self.embedding, tokens.clamp(min=0).view(grid), past.positions))  # (B,K,D)
        mask = past.open()
        total = None
        for i, layer in enumerate(self.layers):
            memory = state.memory_keys[:, i], state.memory_values[:, i]
            x, weights = layer(x, one_at_a_time(past, i, mask), memory, state.memory_mask, state.need_attention)
            if weights is not None:
                total = weights.mean(dim=1) + (0.0 if total is None else total)
        past.close(tokens.view(grid) >= 0)
        state.attention = None if total is None else total / len(self.layers)
        return self.out(self.norm(x)).log_softmax(dim=-1).flatten(0, 1), state

    def select(
        self, state: TransformerDecoderState, parents: Tensor, utterances: Tensor | None = None
    ) -> TransformerDecoderState:
        """Make row n continue from row `parents[n]`, of the same utterance; `utterances` are those that stay."""
        state.past.select(parents, utterances)
        if utterances is not None:
            for name in ("memory_keys", "memory_values", "memory_mask"):
                setattr(state, name, getattr(state, name).index_select(0, utterances))
        return state

    def join(self, state: TransformerDecoderState, other: TransformerDecoderState) -> TransformerDecoderState:
        """The utterances of `other` behind those of `state`."""
        state.past.join(other.past)
        for name in ("memory_keys", "memory_values", "memory_mask"):
            setattr(state, name, join_rows(getattr(state, name), getattr(other, name)))
        return state
