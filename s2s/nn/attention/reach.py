"""Which frames a frame may attend to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from s2s.nn.attention.config import AttentionConfig


class Block(NamedTuple):
    """Queries from `start` to before `stop`, and where their keys are: stretches (first, last + 1), in order."""

    start: int
    stop: int
    keys: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Reach:
    """All frames: keys that a query may attend to by their places, and blocks of queries that look at few of them."""

    def shown(self, query_positions: Tensor, key_positions: Tensor) -> Tensor | None:
        """Which keys (..,T) each query (..,U) may attend to (..,U,T); None: all."""
        return None

    def blocks(self, num_frames: int, block_size: int) -> Iterator[Block]:
        """All queries, at most `block_size` at once."""
        if num_frames <= block_size:  # apart: a loop would have a compiler make it anew for every size
            yield Block(0, num_frames, ((0, num_frames),))
            return
        for start in range(0, num_frames, block_size):
            yield Block(start, min(start + block_size, num_frames), ((0, num_frames),))


@dataclass(frozen=True)
class Limited(Reach):
    """From `left` frames before to `right` after it, and the first `global_frames`, which attend to all.

    Fast Conformer's form for long audio (Rekesh et al. 2023, arXiv:2305.05084, section 2.2; Longformer before it).
    """

    left: int
    right: int
    global_frames: int = 0

    def shown(self, query_positions: Tensor, key_positions: Tensor) -> Tensor:
        query, key = query_positions.unsqueeze(-1), key_positions.unsqueeze(-2)
        near = (key >= query - self.left) & (key <= query + self.right)
        return near | (key < self.global_frames) | (query < self.global_frames) if self.global_frames else near

    def blocks(self, num_frames: int, block_size: int) -> Iterator[Block]:
        first = min(self.global_frames, num_frames)
        if first:
            yield Block(0, first, ((0, num_frames),))
        block_size = max(64, min(block_size, self.left + self.right))  # wider ones look at more that is masked
        for start in range(first, num_frames, block_size):
            stop = min(start + block_size, num_frames)
            low, high = max(0, start - self.left), min(num_frames, stop + self.right)
            if low <= first:
                yield Block(start, stop, ((0, high),))
            else:
                yield Block(start, stop, ((0, first), (low, high)) if first else ((low, high),))


@dataclass(frozen=True)
class Chunked(Reach):
    """Its own chunk of `size` frames, and `left` chunks before it (None: all of them) (Zhang et al. 2020, "U2")."""

    size: int
    left: int | None = None

    def shown(self, query_positions: Tensor, key_positions: Tensor) -> Tensor:
        query, key = query_positions.unsqueeze(-1) // self.size, key_positions.unsqueeze(-2) // self.size
        return (key <= query) if self.left is None else (key <= query) & (key >= query - self.left)

    def blocks(self, num_frames: int, block_size: int) -> Iterator[Block]:
        block_size = max(1, block_size // self.size) * self.size
        for start in range(0, num_frames, block_size):
            stop = min(start + block_size, num_frames)
            low = 0 if self.left is None else max(0, start - self.left * self.size)
            yield Block(start, stop, ((low, stop),))


def build_reach(config: AttentionConfig) -> Reach:
    """The reach that a config describes."""
    if config.reach == "limited":
        return Limited(config.left, config.right, config.global_frames)
    if config.reach == "chunked":
        return Chunked(config.chunk_size, config.left_chunks)
    return Reach()
