"""The encoder of several sources."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from s2s.errors import UserError
from s2s.models.front import Front
from s2s.models.memory import Memory
from s2s.models.streaming_encoder import StreamingEncoder
from s2s.nn.positions import Positions


class MultiSourceEncoder(nn.Module):
    """Reads several sources of the same utterance, each by itself, into one memory (`Memory.of_sources`).

    One `encoder` reads all of them where they are `shared`; otherwise each has its own, which begins as a copy. The
    front, with the embedding of a vocabulary of all sources, is shared in any case.
    """

    def __init__(self, encoder: nn.Module, num_sources: int = 2, shared: bool = False) -> None:
        super().__init__()
        if num_sources < 2:
            raise UserError(f"num_sources={num_sources}: expected at least 2")
        if not isinstance(encoder, StreamingEncoder):
            raise UserError(f"encoder: {type(encoder).__name__} is none; expected one such as TransformerEncoder")
        self.num_sources = num_sources
        self.encoders: list[StreamingEncoder] = nn.ModuleList([encoder])  # type: ignore[assignment]
        for _ in range(0 if shared else num_sources - 1):
            own = copy.deepcopy(encoder)
            own.front = encoder.front
            self.encoders.append(own)
        self.model_dim, self.subsampling_factor = encoder.model_dim, encoder.subsampling_factor

    @property
    def front(self) -> Front:
        """The one of all sources."""
        return self.encoders[0].front

    @property
    def positions(self) -> Positions:
        """Those of the first source's encoder, which are like the others'."""
        return self.encoders[0].positions

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """How many memory frames (B,) come of `lengths` source tokens (B,N)."""
        return torch.stack([self.front.output_lengths(each) for each in lengths.unbind(1)]).sum(dim=0)

    def forward(self, source: Tensor, lengths: Tensor) -> Memory:
        """Tokens (B,N,S) of N sources, lengths (B,N) -> Memory; a source may have no tokens"""
        if source.dim() != 3 or source.size(1) != self.num_sources:
            raise UserError(
                f"the model reads {self.num_sources} sources at once, and was given "
                f"{source.size(1) if source.dim() == 3 else 1}"
            )
        memories = []
        for number in range(self.num_sources):
            encoder = self.encoders[number % len(self.encoders)]
            size = max(1, int(lengths[:, number].max()))
            memories.append(encoder(source[:, number, :size], lengths[:, number]))
        return Memory.of_sources(memories)
