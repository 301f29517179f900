"""What the layers of an encoder know of the frames around those that they are given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from s2s.errors import UserError
from s2s.nn.attention.attention import Attention
from s2s.nn.attention.multi_head import Cached
from s2s.nn.attention.reach import Chunked
from s2s.nn.depthwise import DepthwiseConvolution


class Frames(Protocol):
    """Frames (B,T,D) on their way through the layers, some of which look at other frames too."""

    @property
    def languages(self) -> Tensor | None:
        """Those of the prompts (B,2), for layers of languages; None where there are none."""
        ...

    def attend(self, attention: Attention, x: Tensor) -> Tensor:
        """x (B,T,D) -> what self-attention makes of it (B,T,D)"""
        ...

    def convolve(self, convolution: DepthwiseConvolution, x: Tensor) -> Tensor:
        """x (B,T,C) -> what a convolution makes of it (B,T,C)"""
        ...


@dataclass(frozen=True)
class Whole:
    """All frames of the utterances, those that are `valid` (B,T), with a `bias` over keys (B,1,1,T) that says the same.

    Where there are `chunks`, no frame sees one of a chunk after its own. `languages` are those of prompts.
    """

    valid: Tensor
    bias: Tensor | None
    chunks: Chunked | None = None
    languages: Tensor | None = None

    def attend(self, attention: Attention, x: Tensor) -> Tensor:
        return attention.within(x, self.bias, reach=self.chunks)

    def convolve(self, convolution: DepthwiseConvolution, x: Tensor) -> Tensor:
        return convolution(x, self.valid, None if self.chunks is None else self.chunks.size)


@dataclass(frozen=True)
class PastFrames:
    """What the layers keep of the frames of B utterances before the next chunk: bounded, however many there were."""

    chunks: Chunked
    frames: Tensor  # (B,) how many there were
    kept: list[Cached]  # of each layer that looks back, rows first

    def rows(self, utterances: Sequence[int]) -> PastFrames:
        """Some of the utterances, in that order."""
        index = torch.tensor(utterances, dtype=torch.long, device=self.frames.device)
        return self._each(lambda *parts: parts[0].index_select(0, index))

    @staticmethod
    def joined(pasts: Sequence[PastFrames]) -> PastFrames:
        """The utterances of several, one after the other; all have the same chunks."""
        return pasts[0]._each(lambda *parts: torch.cat(parts), *pasts[1:])

    def _each(self, change: Callable[..., Tensor], *others: PastFrames) -> PastFrames:
        frames = change(self.frames, *(other.frames for other in others))
        layers = zip(self.kept, *(other.kept for other in others), strict=True)
        return PastFrames(self.chunks, frames, [tuple(map(change, *layer)) for layer in layers])


class NextChunk:
    """The next chunk of each utterance, of which the frames that are `valid` (B,T) come first, and its past.

    `past` becomes that of the chunk after it, once all layers have seen it.
    """

    def __init__(self, valid: Tensor, past: PastFrames, layers: Sequence[nn.Module]) -> None:
        self.valid = valid
        self.languages: Tensor | None = None
        self.past = PastFrames(past.chunks, past.frames + valid.sum(dim=1), list(past.kept))
        self.numbers = {id(layer): number for number, layer in enumerate(layers)}
        most = (past.chunks.left or 0) * past.chunks.size
        seen = torch.arange(most, 0, -1, device=valid.device) <= past.frames.unsqueeze(1)
        self.shown = torch.cat((seen, valid), dim=1)

    def attend(self, attention: Attention, x: Tensor) -> Tensor:
        number = self.numbers[id(attention)]
        found, self.past.kept[number] = attention.onward(x, self.past.kept[number], self.shown)
        return found

    def convolve(self, convolution: DepthwiseConvolution, x: Tensor) -> Tensor:
        number = self.numbers[id(convolution)]
        found, kept = convolution.onward(x, self.valid, self.past.kept[number][0])
        self.past.kept[number] = (kept,)
        return found


def looking_back(module: nn.Module) -> list[nn.Module]:
    """The parts of an encoder that look at other frames."""
    return [part for part in module.modules() if isinstance(part, Attention | DepthwiseConvolution)]


def no_past(layers: Sequence[nn.Module], size: int, chunks: Chunked, like: Tensor) -> PastFrames:
    """The past of B = `size` utterances of which nothing was heard, of the dtype of `like`.

    Raises UserError where there is no bound to what the layers would have to keep, or to what they wait for.
    """
    if chunks.left is None:
        raise UserError("left_chunks=null: a stream has to forget; give a number of chunks, such as 4")
    kept = []
    for layer in layers:
        if isinstance(layer, Attention):
            shapes = layer.heads.cached_shapes()
            most = chunks.left * chunks.size
            kept.append(tuple(like.new_zeros(size, heads, most, dim) for heads, dim in shapes))
        elif isinstance(layer, DepthwiseConvolution):
            kept.append((like.new_zeros(size, layer.before, layer.in_channels),))
    return PastFrames(chunks, torch.zeros(size, dtype=torch.long, device=like.device), kept)
