"""Tensors with rows first, of utterances that come and go."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

WIDTH_STEP = 128


def join_rows(a: Tensor, b: Tensor) -> Tensor:
    """a (N,...), b (M,...) -> (N+M,...), the other dimensions padded at their ends with zeros to the larger size."""
    sizes = [max(x, y) for x, y in zip(a.shape[1:], b.shape[1:], strict=True)]
    return torch.cat([_pad(a, sizes), _pad(b, sizes)])


def _pad(x: Tensor, sizes: list[int]) -> Tensor:
    if list(x.shape[1:]) == sizes:
        return x
    padding = [n for size, own in zip(reversed(sizes), reversed(x.shape[1:]), strict=True) for n in (0, size - own)]
    return F.pad(x, padding)


class RowBuffer:
    """Rows (B,H,T,d) of utterances that come and go, in one place that has room for more.

    What leaves or joins moves only rows; there is never a second copy of all of them, except where the room must grow.
    """

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows
        self.buffer: Tensor | None = None  # of which `rows` is a part; None while they may be somebody else's too

    def keep(self, indices: Tensor) -> None:
        """Let go of all rows but `indices` (B'), ascending."""
        if self.buffer is None:
            self.rows = self.buffer = self.rows.index_select(0, indices)
            return
        for new, old in enumerate(indices.tolist()):
            if new != old:
                self.rows[new].copy_(self.rows[old])
        self.rows = self.rows[: len(indices)]

    def join(self, rows: Tensor) -> None:
        """Put rows (B',H,T',d) behind these, zeros where they are shorter; these have zeros where they are shorter."""
        first, size, width = len(self.rows), len(self.rows) + len(rows), max(self.rows.size(2), rows.size(2))
        buffer = self._room_for(size, width)
        buffer[:first, :, self.rows.size(2) : width] = 0.0
        buffer[first:size, :, rows.size(2) : width] = 0.0
        buffer[first:size, :, : rows.size(2)] = rows
        self.rows = buffer[:size, :, :width]

    def _room_for(self, size: int, width: int) -> Tensor:
        if self.buffer is None or size > self.buffer.size(0) or width > self.buffer.size(2):
            old, steps = self.rows, -(-width // WIDTH_STEP) * WIDTH_STEP
            # Twice as many at a time, and widths in steps: so there are few sizes, and freed memory fits again.
            room = 1 << (size - 1).bit_length()
            self.buffer = old.new_zeros(room, old.size(1), steps, old.size(3))
            self.buffer[: len(old), :, : old.size(2)] = old
        return self.buffer
