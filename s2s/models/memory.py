"""What an encoder gives a decoder, and the contracts of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from s2s.models.prompts import Prompts
from s2s.nn.lengths import valid_mask

HEARD = -1  # the number of a layer


@dataclass(frozen=True)
class Memory:
    """Encoder states (B,T,D) and how many of the T frames are real, lengths (B,).

    `keys_values` are what the layers of a decoder made of the states, (B,H',T,d) each, where it was asked before. A
    frame may stand for several that are alike: `counts` (B,T) says for how many, 0 for padding; None: for one.
    `layers` are what layers of the encoder gave, each by its number, where the encoder was asked for it; 0 is the
    surface, what its first layer was given. `asked` is what a decoder is told before it begins. Where the frames are of
    several sources, `sources` (B,T) has the number of each frame's, from 0.
    """

    states: Tensor
    lengths: Tensor
    keys_values: tuple[tuple[Tensor, ...], ...] | None = None
    counts: Tensor | None = None
    layers: Mapping[int, Memory] = field(default_factory=dict)
    asked: Prompts | None = None
    sources: Tensor | None = None

    def rows(self, start: int, stop: int) -> Memory:
        """The utterances from `start` to before `stop`, without frames that are padding for all of them."""
        lengths = self.lengths[start:stop]
        size = int(lengths.max()) if len(lengths) else 0
        pairs = self.keys_values and tuple(
            tuple(kept[start:stop, :, :size] for kept in layer) for layer in self.keys_values
        )
        counts = None if self.counts is None else self.counts[start:stop, :size]
        layers = {number: layer.rows(start, stop) for number, layer in self.layers.items()}
        asked = None if self.asked is None else self.asked.rows(start, stop)
        sources = None if self.sources is None else self.sources[start:stop, :size]
        return Memory(self.states[start:stop, :size], lengths, pairs, counts, layers, asked, sources)

    @classmethod
    def joined(cls, memories: Sequence[Memory]) -> Memory:
        """The utterances of several memories, one after the other."""
        size = max(memory.states.size(1) for memory in memories)
        states = [F.pad(memory.states, (0, 0, 0, size - memory.states.size(1))) for memory in memories]
        counts = None
        if any(memory.counts is not None for memory in memories):
            counts = torch.cat([F.pad(memory.frame_counts, (0, size - memory.states.size(1))) for memory in memories])
        layers = {i: Memory.joined([memory.layers[i] for memory in memories]) for i in memories[0].layers}
        lengths = torch.cat([memory.lengths for memory in memories])
        prompts = [memory.asked for memory in memories if memory.asked is not None]
        asked = Prompts.joined(prompts) if prompts else None
        several = [memory.sources for memory in memories if memory.sources is not None]
        sources = torch.cat([F.pad(each, (0, size - each.size(1))) for each in several]) if several else None
        return cls(torch.cat(states), lengths, counts=counts, layers=layers, asked=asked, sources=sources)

    @classmethod
    def of_sources(cls, memories: Sequence[Memory]) -> Memory:
        """One memory of several sources of the same utterances: the frames of each behind those of the one before."""
        real = torch.cat([valid_mask(memory.lengths, memory.states.size(1)) for memory in memories], dim=1)
        numbers = torch.cat(
            [torch.full_like(m.frame_counts, i, dtype=torch.long) for i, m in enumerate(memories)], dim=1
        )
        lengths = torch.stack([memory.lengths for memory in memories]).sum(dim=0)
        order = real.byte().argsort(dim=1, descending=True, stable=True)[:, : int(lengths.max())]  # padding to the end
        padding = ~valid_mask(lengths, order.size(1))
        states = torch.cat([memory.states for memory in memories], dim=1)
        states = states.gather(1, order.unsqueeze(-1).expand(-1, -1, states.size(-1))).masked_fill(
            padding.unsqueeze(-1), 0.0
        )
        return cls(states, lengths, sources=numbers.gather(1, order).masked_fill(padding, 0))

    @property
    def heard(self) -> Memory:
        """Of speech and text, that of the speech alone, which has all layers (see `HybridModel`); else itself."""
        return self.layers.get(HEARD, self)

    @property
    def frame_counts(self) -> Tensor:
        """For how many frames each stands (B,T), 0 for padding: bool where none stands for several."""
        return valid_mask(self.lengths, self.states.size(1)) if self.counts is None else self.counts


class Encoder(Protocol):
    """Anything that turns source frames into a memory."""

    model_dim: int
    subsampling_factor: int  # source frames per memory frame

    def __call__(self, source: Tensor, lengths: Tensor) -> Memory:
        """source (B,S,F), lengths (B,) -> Memory"""
        ...

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """How many memory frames (B,) come of `lengths` source frames (B,)."""
        ...


State = TypeVar("State")


class Decoder(Protocol[State]):
    """Anything that predicts the next token from a memory and the tokens so far.

    `forward` and repeated `step` give the same numbers.
    """

    vocab_size: int

    def __call__(self, memory: Memory, tokens: Tensor) -> Tensor:
        """Memory of B utterances, tokens (N,U) from bos on, N a multiple of B, rows of an utterance adjacent ->
        log-probabilities (N,U,V) of each next token."""
        ...

    def start(self, memory: Memory, beam_size: int, need_attention: bool = False) -> State:
        """State of N = B * beam_size rows, the hypotheses of one utterance adjacent.

        Where `need_attention`, the state's `attention` is that of the last step, (B,K,T).
        """
        ...

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Last tokens (N,) -> log-probabilities (N,V) of the next, and the state advanced in place.

        A token of -1 leaves its row as it was, and what is returned for that row means nothing.
        """
        ...

    def select(self, state: State, parents: Tensor, utterances: Tensor | None = None) -> State:
        """Make row n continue from row `parents[n]`, a row of the same utterance.

        Where utterances leave, `utterances` (B') names those that stay and `parents` (N') has rows for them only.
        """
        ...

    def join(self, state: State, other: State) -> State:
        """The utterances of `other` behind those of `state`."""
        ...


class AttentionDecoder(Decoder[State], Protocol[State]):
    """A decoder that can say where it looked."""

    def attention(self, memory: Memory, tokens: Tensor) -> Tensor:
        """Tokens (N,U) as above -> where each looked, (N,U,T), the mean of layers and heads."""
        ...
