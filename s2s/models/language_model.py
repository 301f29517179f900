"""Language models, the Transformer first, and the loss of all that predicts the next token."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from s2s.errors import UserError
from s2s.models.memory import Memory
from s2s.nn.attention.cache import HypothesisCache
from s2s.nn.attention.config import Attentions, of_decoder_layer
from s2s.nn.dropout import Dropout
from s2s.nn.lengths import valid_mask
from s2s.nn.positions import Positions
from s2s.nn.transformer import TransformerLayer, before, from_cache


def teacher_forced(target: Tensor, lengths: Tensor, bos_id: int, eos_id: int) -> tuple[Tensor, Tensor, Tensor]:
    """What a decoder is given and what it should answer, for targets (B,U) without bos and eos, lengths (B,).

    Returns tokens (B,U+1) from bos on, the label of each (B,U+1), the last one eos, and which count (B,U+1) bool.
    """
    column = target.new_zeros(len(target), 1)
    counted = valid_mask(lengths + 1, target.size(1) + 1)
    target = target.masked_fill(~counted[:, 1:], eos_id)
    return torch.cat((column + bos_id, target), dim=1), torch.cat((target, column + eos_id), dim=1), counted


def cross_entropy(log_probs: Tensor, labels: Tensor, counted: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Nats per label of log_probs (B,U,V) against labels (B,U), smoothed over the vocabulary, where `counted` (B,U).

    Label smoothing as in Szegedy et al. 2016, section 7.
    """
    log_probs = log_probs.float()
    correct = log_probs.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    smoothed = correct
    if label_smoothing:  # a decoder that forbids tokens, with -inf, has no mean
        smoothed = (1 - label_smoothing) * correct + label_smoothing * log_probs.mean(dim=-1)
    return -smoothed.masked_fill(~counted, 0.0).sum() / counted.sum().clamp(min=1)


class LanguageModel(nn.Module, ABC):
    """Predicts the next token from the tokens so far.

    It is a `Decoder` and takes a memory as all do, only to know how many utterances there are; `DecoderScorer` makes a
    scorer of it (shallow fusion). Where `tie_output`, the embedding is the output matrix too.
    """

    def __init__(self, vocab_size: int, model_dim: int, bos_id: int, eos_id: int, tie_output: bool) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.bos_id, self.eos_id = bos_id, eos_id
        self.embedding = nn.Embedding(vocab_size, model_dim)
        nn.init.normal_(self.embedding.weight, std=model_dim**-0.5)
        self.out = None if tie_output else nn.Linear(model_dim, vocab_size)
        self.out_bias = nn.Parameter(torch.zeros(vocab_size)) if tie_output else None

    def forward(self, memory: Memory | None, tokens: Tensor) -> Tensor:
        """tokens (N,U) from bos on -> log-probabilities (N,U,V) of each next token; `memory` is not looked at."""
        return self.log_probs(tokens)

    @abstractmethod
    def log_probs(self, tokens: Tensor) -> Tensor:
        """tokens (N,U) from bos on -> log-probabilities (N,U,V) of each next token"""

    def loss(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Cross-entropy of texts (B,U) without bos and eos, lengths (B,): nats per token, eos counted."""
        given, labels, counted = teacher_forced(tokens, lengths, self.bos_id, self.eos_id)
        return cross_entropy(self.log_probs(given), labels, counted)

    @abstractmethod
    def start(self, memory: Memory, beam_size: int, need_attention: bool = False) -> Any:
        """State of N = B * beam_size rows, in the dtype of the weights. Raises UserError where attention is wanted."""

    @abstractmethod
    def step(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Last tokens (N,) -> log-probabilities (N,V) of the next; a token of -1 leaves its row as it was."""

    @abstractmethod
    def select(self, state: Any, parents: Tensor, utterances: Tensor | None = None) -> Any:
        """Make row n continue from row `parents[n]`, of the same utterance; `utterances` are those that stay."""

    @abstractmethod
    def join(self, state: Any, other: Any) -> Any:
        """The utterances of `other` behind those of `state`."""

    def _output(self, x: Tensor) -> Tensor:
        """What the layers give (...,D) -> log-probabilities (...,V)"""
        logits = F.linear(x, self.embedding.weight, self.out_bias) if self.out is None else self.out(x)
        return logits.log_softmax(dim=-1)


def check_no_attention(need_attention: bool) -> None:
    """UserError where a language model is asked where it looked."""
    if need_attention:
        raise UserError("a language model attends to no memory: ask the attention decoder for attention")


class TransformerLanguageModel(LanguageModel):
    """A Transformer decoder without a memory (pre-norm); its state is the cache of its layers.

    With `positions` none it knows only which tokens came before (Irie et al. 2019, "Language modeling with deep
    Transformers", arXiv:1905.04226, where that was no worse).
    """

    def __init__(
        self,
        vocab_size: int,
        model_dim: int = 256,
        num_layers: int = 6,
        num_heads: int = 4,
        feed_forward_dim: int = 1024,
        dropout: float = 0.1,
        bos_id: int = 2,
        eos_id: int = 3,
        positions: str = "sinusoidal",
        max_positions: int = 0,
        attention: Attentions = None,
        tie_output: bool = False,
    ) -> None:
        super().__init__(vocab_size, model_dim, bos_id, eos_id, tie_output)
        self.positions = Positions(positions, model_dim, max_positions)
        self.layers: list[TransformerLayer] = nn.ModuleList(  # type: ignore[assignment]
            TransformerLayer(
                model_dim,
                num_heads,
                feed_forward_dim,
                dropout,
                over_memory=False,
                positions=positions,
                self_attention=of_decoder_layer(attention, i),
            )
            for i in range(num_layers)
        )
        self.norm = nn.LayerNorm(model_dim)
        self.dropout = Dropout(dropout)

    def _embed(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """tokens (A,U), the vectors of their positions (A,U,D) or (U,D) -> (A,U,D)"""
        x = self.embedding(tokens) * math.sqrt(self.embedding.embedding_dim)
        return self.dropout(x + positions.to(x.dtype))

    def log_probs(self, tokens: Tensor) -> Tensor:
        x = self._embed(tokens, self.positions.first(tokens.size(1), tokens.device))
        for layer in self.layers:
            x, _ = layer(x, before)
        return self._output(self.norm(x))

    def start(self, memory: Memory, beam_size: int, need_attention: bool = False) -> HypothesisCache:
        check_no_attention(need_attention)
        heads = [layer.self_attention.heads for layer in self.layers]
        shapes, stride = [each.cached_shapes() for each in heads], math.gcd(*(each.stride for each in heads))
        return HypothesisCache.empty(len(memory.lengths), beam_size, shapes, self.embedding.weight, stride)

    def step(self, tokens: Tensor, state: HypothesisCache) -> tuple[Tensor, HypothesisCache]:
        grid = state.positions.shape
        x = self._embed(tokens.clamp(min=0).view(grid), self.positions(state.positions))  # (B,K,D)
        mask = state.open()
        for i, layer in enumerate(self.layers):
            x, _ = layer(x, from_cache(state, i, mask))
        state.close(tokens.view(grid) >= 0)
        return self._output(self.norm(x)).flatten(0, 1), state

    def select(self, state: HypothesisCache, parents: Tensor, utterances: Tensor | None = None) -> HypothesisCache:
        state.select(parents, utterances)
        return state

    def join(self, state: HypothesisCache, other: HypothesisCache) -> HypothesisCache:
        state.join(other)
        return state
