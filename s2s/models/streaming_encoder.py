"""What encoders that can hear an utterance chunk by chunk have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from s2s.errors import UserError
from s2s.models.front import Front, front_of
from s2s.models.intermediate_ctc import IntermediateCTC
from s2s.models.memory import Memory
from s2s.nn.attention.attention import Attention
from s2s.nn.attention.reach import Chunked
from s2s.nn.attention.scores import key_bias
from s2s.nn.depthwise import DepthwiseConvolution
from s2s.nn.frames import Frames, NextChunk, PastFrames, Whole, looking_back, no_past
from s2s.nn.language_feed_forward import LanguageFeedForward
from s2s.nn.lengths import valid_mask
from s2s.nn.positions import Positions


@dataclass(frozen=True)
class DynamicChunks:
    """Chunks that a training draws for every batch, so that one model can be streamed at any latency.

    The chunk is the look-ahead: its first frame sees the others, in every layer the same ones (Noroozi et al. 2023,
    "Stateful Conformer", arXiv:2312.17279, section 3.1).

    Attributes:
        max_chunk_size: sizes from 1 to so many frames are drawn (Zhang et al. 2020, "U2", arXiv:2012.05481,
            section 3.1).
        chunk_sizes: one of these is drawn instead, for a model of several latencies.
        left_frames: so many frames before the chunk, in whole chunks, are seen; null: all of them for half the batches,
            a number of chunks that is drawn for the others.
        full_share: share of the batches in which every frame sees all others.
    """

    max_chunk_size: int = 25
    chunk_sizes: Sequence[int] | None = None
    left_frames: int | None = None
    full_share: float = 0.5

    def __post_init__(self) -> None:
        if self.max_chunk_size < 1:
            raise UserError(f"max_chunk_size={self.max_chunk_size}: expected at least 1 frame")
        if self.chunk_sizes is not None and (not self.chunk_sizes or min(self.chunk_sizes) < 1):
            raise UserError(f"chunk_sizes={list(self.chunk_sizes)}: expected numbers of frames, such as [4, 8, 16]")
        if self.left_frames is not None and self.left_frames < 0:
            raise UserError(f"left_frames={self.left_frames}: expected 0 or more")
        if not 0.0 <= self.full_share <= 1.0:
            raise UserError(f"full_share={self.full_share}: expected a share, from 0 to 1")

    def draw(self, num_frames: int) -> Chunked | None:
        """The chunks of a batch of at most so many frames, by torch's generator; None: no frame is kept from any."""
        if float(torch.rand(())) < self.full_share:
            return None
        sizes = self.chunk_sizes or range(1, self.max_chunk_size + 1)
        size = sizes[_drawn(len(sizes))]
        if self.left_frames is not None:
            return Chunked(size, -(-self.left_frames // size))
        return Chunked(size, None if _drawn(2) else _drawn(-(-num_frames // size)))


def _drawn(below: int) -> int:
    return int(torch.randint(max(1, below), ()))


class StreamingEncoder(nn.Module, ABC):
    """A front, positions and layers, over whole utterances or over the next chunk of each.

    Chunk by chunk it gives what `forward` gives with the same `chunks`. Without any, `forward` takes those that its
    attention is configured with, or in a training those that `dynamic_chunks` draws.
    """

    def __init__(
        self, front: nn.Module, model_dim: int, positions: Positions, dynamic_chunks: DynamicChunks | None
    ) -> None:
        super().__init__()
        self.model_dim = model_dim
        self.front: Front = front_of(front, model_dim)
        self.subsampling_factor = self.front.subsampling_factor
        self.positions = positions
        self.dynamic_chunks = dynamic_chunks

    @abstractmethod
    def through(self, x: Tensor, lengths: Tensor, frames: Frames, ctc: IntermediateCTC | None) -> Memory:
        """What the layers make of x (B,T,D), lengths (B,), which are these `frames`, their positions added."""

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Memory frames (B,) of source frames or tokens (B,)."""
        return self.front.output_lengths(lengths)

    def forward(
        self,
        source: Tensor,
        lengths: Tensor,
        ctc: IntermediateCTC | None = None,
        chunks: Chunked | None = None,
        languages: Tensor | None = None,
    ) -> Memory:
        """source (B,S,F) or tokens (B,S), lengths (B,) -> Memory; `languages` (B,2) as in `Prompts`"""
        x, lengths = self.front(source, lengths)
        x = x + self.positions.first(x.size(1), x.device).to(x.dtype)
        valid = valid_mask(lengths, x.size(1))
        frames = Whole(valid, key_bias(valid, x), self._chunks(chunks, x.size(1)), languages)
        return self.through(x, lengths, frames, ctc)

    def _chunks(self, chunks: Chunked | None, num_frames: int) -> Chunked | None:
        if chunks is not None:
            self.check_streaming()
            return chunks
        if self.training and self.dynamic_chunks is not None:
            return self.dynamic_chunks.draw(num_frames)
        return self.own_chunks

    @property
    def own_chunks(self) -> Chunked | None:
        """The chunks that all of its attention is configured with, where these are the same ones."""
        reaches = {part.reach if part.config.above is None else None for part in self._attentions()}
        reach = reaches.pop() if len(reaches) == 1 else None
        return reach if isinstance(reach, Chunked) else None

    def check_dynamic_chunks(self) -> None:
        """Raise UserError where a training could not draw chunks, because the encoder looks beyond any."""
        if self.dynamic_chunks is None:
            return
        try:
            self.check_streaming()
        except UserError as error:
            raise UserError(f"dynamic_chunks: {error}") from error
        if any(part.config.reach != "full" for part in self._attentions()):
            raise UserError(
                "dynamic_chunks: expected attention.reach=full, since chunks are drawn; leave one of them out"
            )

    def _attentions(self) -> list[Attention]:
        return [part for part in self.modules() if isinstance(part, Attention)]

    def check_streaming(self) -> None:
        """Raise UserError where the encoder looks at frames that a chunk has not."""
        for part in self._attentions():
            if part.config.reach not in ("full", "chunked") or part.config.above is not None:
                raise UserError(
                    f"attention.reach={part.config.reach}: this encoder's attention cannot be cut into chunks"
                )
        if any(part.kind == "symmetric" for part in self.modules() if isinstance(part, DepthwiseConvolution)):
            raise UserError(
                "convolution=symmetric: this encoder's convolutions look beyond a chunk; train one with "
                "convolution: causal or chunked to stream it"
            )
        if any(isinstance(part, LanguageFeedForward) for part in self.modules()):
            raise UserError("language_layers: this encoder chooses layers by language; it hears whole utterances alone")
        if self.front.view is None:
            raise UserError(
                f"front: {type(self.front).__name__} sees all of an utterance; this encoder hears no chunks"
            )
        if self.positions.max_positions:
            raise UserError("positions=learned: a stream has no end; train an encoder with other positions")

    def window(self, chunks: Chunked) -> tuple[int, int]:
        """Source frames that a chunk is made of, and after how many of them the next window begins."""
        hop = chunks.size * self.subsampling_factor
        return hop + (self.front.view or self.subsampling_factor) - self.subsampling_factor, hop

    def start(self, size: int, chunks: Chunked | None = None) -> PastFrames:
        """The state of B = `size` utterances of which nothing was heard, for chunks given or its own.

        Raises UserError where it cannot be streamed, as `check_streaming`, or no chunks are known.
        """
        self.check_streaming()
        chunks = chunks or self.own_chunks
        if chunks is None:
            raise UserError("chunk_size: this encoder has no chunks of its own; choose a size in frames, such as 8")
        return no_past(looking_back(self), size, chunks, next(self.parameters()))

    def step(
        self, source: Tensor, lengths: Tensor, past: PastFrames, ctc: IntermediateCTC | None = None
    ) -> tuple[Memory, PastFrames]:
        """The next window of each utterance, source (B,S,F), lengths (B,) -> Memory of their frames, the next state.

        A window is as long as `window` says, or shorter at an utterance's end, after which its state is of no use.
        """
        x, lengths = self.front(source, lengths)
        positions = past.frames.unsqueeze(1) + torch.arange(x.size(1), device=x.device)
        frames = NextChunk(valid_mask(lengths, x.size(1)), past, looking_back(self))
        memory = self.through(x + self.positions(positions).to(x.dtype), lengths, frames, ctc)
        return memory, frames.past
