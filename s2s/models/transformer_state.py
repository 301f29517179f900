"""What a Transformer decoder holds in a search, and what it gives of whole texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor

from s2s.nn.attention.cache import HypothesisCache
from s2s.nn.attention.multi_head import Cached
from s2s.nn.rows import RowBuffer, join_rows


@dataclass
class TransformerDecoderState:
    """The past of N = B*K hypotheses, and the memory's keys and values, once per utterance."""

    past: HypothesisCache
    memory: tuple[tuple[RowBuffer, ...], ...]  # keys and values (B,H',T,d) of each layer, or what they are made of;
    # then those of the surface, where there is surface fusion
    memory_counts: Tensor  # (B,1,1,T) as in Memory, bool where no frame stands for more than itself
    need_attention: bool = False
    attention: Tensor | None = None  # (B,K,T) of the last step, the mean of layers and heads, where asked for
    languages: Tensor | None = None  # (B,2) of the prompts, where there are any

    @classmethod
    def of(
        cls, past: HypothesisCache, memory: Sequence[Cached], counts: Tensor, need_attention: bool
    ) -> TransformerDecoderState:
        """Of what layers keep of a memory (B,H',T,d), and the counts (B,1,1,T) of its frames."""
        return cls(past, tuple(tuple(map(RowBuffer, cached)) for cached in memory), counts, need_attention)

    def select(self, parents: Tensor, utterances: Tensor | None) -> None:
        """As `s2s.models.memory.Decoder.select`."""
        self.past.select(parents, utterances)
        if utterances is not None:
            for buffer in chain.from_iterable(self.memory):
                buffer.keep(utterances)
            self.memory_counts = self.memory_counts.index_select(0, utterances)
            if self.languages is not None:
                self.languages = self.languages.index_select(0, utterances)

    def join(self, other: TransformerDecoderState) -> None:
        """As `s2s.models.memory.Decoder.join`."""
        self.past.join(other.past)
        both = zip(chain.from_iterable(self.memory), chain.from_iterable(other.memory), strict=True)
        for buffer, more in both:
            buffer.join(more.rows)
        self.memory_counts = join_rows(self.memory_counts, other.memory_counts)
        if self.languages is not None and other.languages is not None:
            self.languages = torch.cat((self.languages, other.languages))


class Reading(NamedTuple):
    """What a decoder makes of N texts of U tokens that it is given at once, and how it looked at their memories."""

    x: Tensor  # (N,U,D') what `log_probs` takes
    weights: dict[int, Tensor]  # (N,H,U,T) of the layers that were asked for
    alignments: dict[int, Tensor]  # (N,H,U,T) of the layers whose heads stop: where they do

    @classmethod
    def of(cls, x: Tensor, weights: Mapping[int, Tensor], alignments: Mapping[int, Tensor], rows: int) -> Reading:
        """Of K=`rows` texts for each memory: weights and alignments (B,H,K*U,T)."""
        return cls(x, *({i: _of_rows(each, rows) for i, each in found.items()} for found in (weights, alignments)))

    def after(self, num_tokens: int) -> Reading:
        """That of the tokens after the first ones."""
        kept = ({i: each[:, :, num_tokens:] for i, each in found.items()} for found in (self.weights, self.alignments))
        return Reading(self.x[:, num_tokens:], *kept)


def _of_rows(x: Tensor, rows: int) -> Tensor:
    """(B,H,K*U,T) -> (N,H,U,T)"""
    return x.unflatten(2, (rows, -1)).transpose(1, 2).flatten(0, 1)
