"""Depthwise convolution over time."""

from __future__ import annotations

from torch import Tensor, nn

from s2s.errors import UserError


class DepthwiseConvolution(nn.Conv1d):
    """A filter over time for each channel; `kernel_size` is odd, so that as many frames come out as go in."""

    def __init__(self, channels: int, kernel_size: int) -> None:
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise UserError(
                f"kernel_size={kernel_size}: expected an odd number, as the frame in the middle is that of the output; "
                f"use {max(kernel_size, 0) + 1}"
            )
        super().__init__(channels, channels, kernel_size, padding=kernel_size // 2, groups=channels)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:  # type: ignore[override]
        """x (B,T,C), valid (B,T) -> (B,T,C); past its end every utterance sees zeros, as it would alone."""
        return super().forward(x.masked_fill(~valid.unsqueeze(-1), 0.0).transpose(1, 2)).transpose(1, 2)
