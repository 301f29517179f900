"""Depthwise convolution over time."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from s2s.errors import UserError, nearest

CONVOLUTIONS = ("symmetric", "causal", "chunked")


class DepthwiseConvolution(nn.Conv1d):
    """A filter over time for each channel; `kernel_size` is odd, so that as many frames come out as go in.

    `kind` says what a frame sees: as many frames after it as before it ("symmetric"), only those before it ("causal"),
    or those after it that are in its own chunk ("chunked", Li et al. 2023, arXiv:2304.09325, section 2.2), all where
    there are no chunks.
    """

    def __init__(self, channels: int, kernel_size: int, kind: str = "symmetric") -> None:
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise UserError(
                f"kernel_size={kernel_size}: expected an odd number, as the frame in the middle is that of the output; "
                f"use {max(kernel_size, 0) + 1}"
            )
        if kind not in CONVOLUTIONS:
            raise UserError(
                f"convolution={kind}: expected one of {', '.join(CONVOLUTIONS)}.{nearest(kind, CONVOLUTIONS)}"
            )
        super().__init__(channels, channels, kernel_size, groups=channels)
        self.kind = kind
        self.before = kernel_size - 1 if kind == "causal" else kernel_size // 2  # frames that it sees of the past
        self.after = kernel_size - 1 - self.before

    def forward(self, x: Tensor, valid: Tensor, chunk_size: int | None = None) -> Tensor:  # type: ignore[override]
        """x (B,T,C), valid (B,T) -> (B,T,C); past its end every utterance sees zeros, as it would alone.

        Chunks of `chunk_size` frames mean something to a chunked convolution alone.
        """
        x = x.masked_fill(~valid.unsqueeze(-1), 0.0).transpose(1, 2)
        if self.kind != "chunked" or chunk_size is None:
            return self._filtered(F.pad(x, (self.before, self.after))).transpose(1, 2)
        # Convolutions of many short chunks are slow: the past and each frame of the future are filters of their own.
        weight, size = self.weight, x.size(2)
        found = F.conv1d(F.pad(x, (self.before, 0)), weight[..., : self.before + 1], self.bias, groups=self.groups)
        place = torch.arange(size, device=x.device) % chunk_size
        for ahead in range(1, min(self.after + 1, chunk_size, size)):
            seen = x[..., ahead:].masked_fill(place[: size - ahead] >= chunk_size - ahead, 0.0)
            found = found + F.pad(weight[:, 0, self.before + ahead, None] * seen, (0, ahead))
        return found.transpose(1, 2)

    def onward(self, x: Tensor, valid: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """As `forward`, of the next chunk x (B,T,C) after its `past` (B,before,C), zeros first; and the next past."""
        seen = torch.cat((past, x.masked_fill(~valid.unsqueeze(-1), 0.0)), dim=1)
        found = self._filtered(F.pad(seen, (0, 0, 0, self.after)).transpose(1, 2)).transpose(1, 2)
        return found, seen[:, seen.size(1) - self.before :]

    def _filtered(self, x: Tensor) -> Tensor:
        """(B,C,before+T+after) -> (B,C,T)"""
        return F.conv1d(x, self.weight, self.bias, groups=self.groups)
