"""The Transformer decoder: parallel for training, a token at a time with preallocated caches for search."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from s2s.models.memory import Memory
from s2s.nn.attention.multi_head import MultiHeadAttention
from s2s.nn.feed_forward import FeedForward
from s2s.nn.lengths import valid_mask
from s2s.nn.positions import sinusoidal


@dataclass
class TransformerDecoderState:
    """Rows first; the memory's keys and values are held once per utterance, not per hypothesis."""

    self_keys: Tensor  # (N,L,H,U,d), filled up to `length`
    self_values: Tensor  # (N,L,H,U,d)
    memory_keys: Tensor  # (B,L,H,T,d)
    memory_values: Tensor  # (B,L,H,T,d)
    memory_mask: Tensor  # (B,1,1,T) bool
    length: int


class TransformerDecoderLayer(nn.Module):
    """Self-attention, attention over the memory, feed-forward, each after a layer norm (pre-norm)."""

    def __init__(self, model_dim: int, num_heads: int, feed_forward_dim: int, dropout: float) -> None:
        super().__init__()
        self.self_attention = MultiHeadAttention(model_dim, num_heads, dropout)
        self.memory_attention = MultiHeadAttention(model_dim, num_heads, dropout)
        self.feed_forward = FeedForward(model_dim, feed_forward_dim, dropout, nn.ReLU())
        self.norm_self = nn.LayerNorm(model_dim)
        self.norm_memory = nn.LayerNorm(model_dim)
        self.norm_feed_forward = nn.LayerNorm(model_dim)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        memory_keys: Tensor,
        memory_values: Tensor,
        memory_mask: Tensor,
        self_mask: Tensor | None = None,
        past: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """x (B,U,D), or (N,1,D) with `past`: keys and values (N,H,1..U,d) whose last entry is written here."""
        y = self.norm_self(x)
        keys, values = self.self_attention.heads.keys_values(y)
        if past is not None:
            past[0][:, :, -1:], past[1][:, :, -1:] = keys, values
            keys, values = past
        x = x + self.dropout(self.self_attention(y, keys, values, self_mask)[0])
        # The hypotheses of one utterance attend as the queries of one sequence: (N,1,D) -> (B,K,D).
        y = self.norm_memory(x).view(memory_keys.size(0), -1, x.size(-1))
        x = x + self.dropout(self.memory_attention(y, memory_keys, memory_values, memory_mask)[0]).view_as(x)
        return x + self.feed_forward(self.norm_feed_forward(x))


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

    def _embed(self, tokens: Tensor, first: int) -> Tensor:
        """tokens (B,U), the first of them at position `first` -> (B,U,D)"""
        x = self.embedding(tokens)
        positions = torch.arange(first, first + tokens.size(1), device=tokens.device)
        return self.dropout(x * math.sqrt(x.size(-1)) + sinusoidal(positions, x.size(-1)).to(x.dtype))

    def forward(self, memory: Memory, tokens: Tensor) -> Tensor:
        """tokens (B,U) from bos on -> log-probabilities (B,U,V) of each next token"""
        x = self._embed(tokens, 0)
        states = self.memory_projection(memory.states)
        causal = torch.ones(tokens.size(1), tokens.size(1), dtype=torch.bool, device=x.device).tril()
        mask = valid_mask(memory.lengths, states.size(1))[:, None, None, :]
        for layer in self.layers:
            x = layer(x, *layer.memory_attention.heads.keys_values(states), mask, causal)
        return self.out(self.norm(x)).log_softmax(dim=-1)

    def start(self, memory: Memory, beam_size: int, max_length: int) -> TransformerDecoderState:
        """State of N = B * beam_size rows, for at most `max_length` steps."""
        states = self.memory_projection(memory.states)
        pairs = [layer.memory_attention.heads.keys_values(states) for layer in self.layers]
        heads = self.layers[0].self_attention.heads
        cache = (states.size(0) * beam_size, len(self.layers), heads.num_heads, max_length, heads.head_dim)
        return TransformerDecoderState(
            self_keys=states.new_zeros(cache),
            self_values=states.new_zeros(cache),
            memory_keys=torch.stack([keys for keys, _ in pairs], dim=1),
            memory_values=torch.stack([values for _, values in pairs], dim=1),
            memory_mask=valid_mask(memory.lengths, states.size(1))[:, None, None, :],
            length=0,
        )

    def step(self, tokens: Tensor, state: TransformerDecoderState) -> tuple[Tensor, TransformerDecoderState]:
        """Last tokens (N,) -> log-probabilities (N,V) of the next"""
        x = self._embed(tokens.unsqueeze(1), state.length)  # (N,1,D)
        stop = state.length + 1
        for i, layer in enumerate(self.layers):
            past = state.self_keys[:, i, :, :stop], state.self_values[:, i, :, :stop]
            x = layer(x, state.memory_keys[:, i], state.memory_values[:, i], state.memory_mask, past=past)
        state.length = stop
        return self.out(self.norm(x[:, 0])).log_softmax(dim=-1), state

    def select(self, state: TransformerDecoderState, parents: Tensor) -> TransformerDecoderState:
        """Make row n continue from row `parents[n]`, a row of the same utterance."""
        for cache in (state.self_keys, state.self_values):
            filled = cache[..., : state.length, :]
            filled.copy_(filled.index_select(0, parents))
        return state
