"""The Transformer decoder: parallel for training, a token at a time for search."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from s2s.models.memory import Memory
from s2s.nn.attention.cache import HypothesisCache
from s2s.nn.attention.config import Attentions, of_decoder_layer, of_layer
from s2s.nn.attention.multi_head import Cached
from s2s.nn.attention.scores import count_bias
from s2s.nn.lengths import valid_mask
from s2s.nn.positions import Positions
from s2s.nn.rows import RowBuffer, join_rows
from s2s.nn.transformer import TransformerLayer, before, from_cache


@dataclass
class TransformerDecoderState:
    """The past of N = B*K hypotheses, and the memory's keys and values, once per utterance."""

    past: HypothesisCache
    memory: tuple[tuple[RowBuffer, ...], ...]  # keys and values (B,H',T,d) of each layer, or what they are made of
    memory_counts: Tensor  # (B,1,1,T) as in Memory, bool where no frame stands for more than itself
    need_attention: bool = False
    attention: Tensor | None = None  # (B,K,T) of the last step, the mean of layers and heads, where asked for


class TransformerDecoder(nn.Module):
    """Predicts the next token from the tokens so far and a memory (Vaswani et al. 2017, section 3.1).

    The defaults are the pre-norm Transformer with sinusoidal positions. Other people's models have learned positions,
    `max_positions` of them, norms after the residuals (not `pre_norm`), a norm of the embedded tokens, no last
    norm, or the embedding as output matrix too (`tie_output`).
    """

    def __init__(
        self,
        vocab_size: int,
        memory_dim: int,
        model_dim: int = 256,
        num_layers: int = 6,
        num_heads: int = 4,
        feed_forward_dim: int = 2048,
        dropout: float = 0.1,
        activation: str = "relu",
        pre_norm: bool = True,
        final_norm: bool = True,
        positions: str = "sinusoidal",
        max_positions: int = 0,
        scale_embedding: bool = True,
        norm_embedding: bool = False,
        tie_output: bool = False,
        out_bias: bool = True,
        self_attention: Attentions = None,
        cross_attention: Attentions = None,
    ) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.embedding = nn.Embedding(vocab_size, model_dim)
        nn.init.normal_(self.embedding.weight, std=model_dim**-0.5)
        self.scale = math.sqrt(model_dim) if scale_embedding else 1.0
        self.positions = Positions(positions, model_dim, max_positions)
        self.norm_embedding = nn.LayerNorm(model_dim) if norm_embedding else nn.Identity()
        self.memory_projection = nn.Linear(memory_dim, model_dim) if memory_dim != model_dim else nn.Identity()
        self.layers: list[TransformerLayer] = nn.ModuleList(  # type: ignore[assignment]
            TransformerLayer(
                model_dim,
                num_heads,
                feed_forward_dim,
                dropout,
                activation=activation,
                pre_norm=pre_norm,
                positions=positions,
                self_attention=of_decoder_layer(self_attention, i),
                cross_attention=of_layer(cross_attention, i),
            )
            for i in range(num_layers)
        )
        self.norm = nn.LayerNorm(model_dim) if final_norm else nn.Identity()
        if tie_output:
            self.out_bias = nn.Parameter(torch.zeros(vocab_size)) if out_bias else None
        self.out: nn.Module | None = None if tie_output else nn.Linear(model_dim, vocab_size, bias=out_bias)
        self.dropout = nn.Dropout(dropout)

    @property
    def max_positions(self) -> int | None:
        """How many tokens it can take, bos or prompt included; None: any number."""
        return self.positions.max_positions or None

    def _memory(self, memory: Memory) -> tuple[tuple[Cached, ...], Tensor]:
        """Keys and values (B,H',T,d) of every layer, and the counts (B,1,1,T) of frames, bool where all are 0 or 1."""
        pairs = memory.keys_values
        if pairs is None:
            states = self.memory_projection(memory.states)
            pairs = tuple(layer.memory_attention.project(states) for layer in self.layers)
        return pairs, memory.frame_counts[:, None, None, :]

    def prepared(self, memory: Memory) -> Memory:
        """`memory` with the keys and values of all layers, for several uses of it by this decoder."""
        return replace(memory, keys_values=self._memory(memory)[0])

    def _embed(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """tokens (A,U), the vectors of their positions (A,U,D) or (U,D) -> (A,U,D)"""
        x = self.embedding(tokens) * self.scale
        return self.dropout(self.norm_embedding(x + positions.to(x.dtype)))

    def logits(self, x: Tensor) -> Tensor:
        """What the last layer gives (...,D) -> log-probabilities (...,V) of each next token, not normalised."""
        if self.out is None:
            return F.linear(self.norm(x), self.embedding.weight, self.out_bias)
        return self.out(self.norm(x))

    def forward(self, memory: Memory, tokens: Tensor) -> Tensor:
        """tokens (N,U) from bos on, N a multiple of B -> log-probabilities (N,U,V) of each next token"""
        return self.logits(self._parallel(memory, tokens)[0]).log_softmax(dim=-1)

    def attention(self, memory: Memory, tokens: Tensor) -> Tensor:
        """tokens (N,U) from bos on -> where each looked (N,U,T): the mean weights of all layers and heads."""
        heads = [(i, head) for i, layer in enumerate(self.layers) for head in range(layer.memory_attention.num_heads)]
        return self.read(memory, tokens, heads)[1].mean(dim=1)

    def read(self, memory: Memory, tokens: Tensor, heads: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor]:
        """tokens (N,U) from bos on -> what `logits` takes (N,U,D), and the weights of some heads (N,len(heads),U,T).

        A head is the number of its layer and its own number in the layer.
        """
        x, weights = self._parallel(memory, tokens, {layer for layer, _ in heads})
        looked = [
            weights[layer][:, head].reshape(len(tokens), tokens.size(1), -1) for layer, head in heads
        ]  # (B,N/B*U,T) -> (N,U,T)
        return x, torch.stack(looked, dim=1)

    def _parallel(
        self, memory: Memory, tokens: Tensor, weights_of: set[int] | frozenset[int] = frozenset()
    ) -> tuple[Tensor, dict[int, Tensor]]:
        x = self._embed(tokens, self.positions.first(tokens.size(1), tokens.device))
        pairs, counts = self._memory(memory)
        mask = count_bias(counts, x)
        kept = {}
        for i, (layer, pair) in enumerate(zip(self.layers, pairs, strict=True)):
            x, weights = layer(x, before, pair, mask, need_weights=i in weights_of)
            if weights is not None:
                kept[i] = weights
        return x, kept

    def start(self, memory: Memory, beam_size: int, need_attention: bool = False) -> TransformerDecoderState:
        """State of N = B * beam_size rows."""
        pairs, counts = self._memory(memory)
        shapes = [layer.self_attention.heads.cached_shapes() for layer in self.layers]
        return TransformerDecoderState(
            past=HypothesisCache.empty(len(counts), beam_size, shapes, like=pairs[0][0]),
            memory=tuple(tuple(map(RowBuffer, cached)) for cached in pairs),
            memory_counts=counts,
            need_attention=need_attention,
        )

    def prompt(self, tokens: Tensor, lengths: Tensor, state: TransformerDecoderState) -> Tensor:
        """Begin all hypotheses of an utterance with tokens (B,P), lengths (B,) -> what the last layer gives (B,P,D).

        For a new state; it takes one pass, and one set of keys and values an utterance.
        """
        x = self._embed(tokens, self.positions.first(tokens.size(1), tokens.device))
        mask = state.past.open_shared(valid_mask(lengths, tokens.size(1)))
        bias = count_bias(state.memory_counts, x)
        for i, (layer, buffers) in enumerate(zip(self.layers, state.memory, strict=True)):
            x, _ = layer(x, from_cache(state.past, i, mask), tuple(b.rows for b in buffers), bias)
        return x

    def step(self, tokens: Tensor, state: TransformerDecoderState) -> tuple[Tensor, TransformerDecoderState]:
        """Last tokens (N,) -> log-probabilities (N,V) of the next; a token of -1 leaves its row as it was."""
        return self.logits(self.advance(tokens, state)).log_softmax(dim=-1), state

    def advance(self, tokens: Tensor, state: TransformerDecoderState) -> Tensor:
        """Last tokens (N,) -> what the last layer gives (N,D), the state advanced in place, as in `step`."""
        past = state.past
        grid = past.positions.shape
        x = self._embed(tokens.clamp(min=0).view(grid), self.positions(past.positions))  # (B,K,D)
        mask, bias = past.open(), count_bias(state.memory_counts, x)
        total = None
        for i, (layer, buffers) in enumerate(zip(self.layers, state.memory, strict=True)):
            memory = tuple(b.rows for b in buffers)
            x, weights = layer(x, from_cache(past, i, mask), memory, bias, state.need_attention)
            if weights is not None:
                total = weights.mean(dim=1) + (0.0 if total is None else total)
        past.close(tokens.view(grid) >= 0)
        state.attention = None if total is None else total / len(self.layers)
        return x.flatten(0, 1)

    def select(
        self, state: TransformerDecoderState, parents: Tensor, utterances: Tensor | None = None
    ) -> TransformerDecoderState:
        """Make row n continue from row `parents[n]`, of the same utterance; `utterances` are those that stay."""
        state.past.select(parents, utterances)
        if utterances is not None:
            for buffer in chain.from_iterable(state.memory):
                buffer.keep(utterances)
            state.memory_counts = state.memory_counts.index_select(0, utterances)
        return state

    def join(self, state: TransformerDecoderState, other: TransformerDecoderState) -> TransformerDecoderState:
        """The utterances of `other` behind those of `state`."""
        state.past.join(other.past)
        both = zip(chain.from_iterable(state.memory), chain.from_iterable(other.memory), strict=True)
        for buffer, more in both:
            buffer.join(more.rows)
        state.memory_counts = join_rows(state.memory_counts, other.memory_counts)
        return state
