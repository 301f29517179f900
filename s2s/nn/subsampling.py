"""Fewer frames before the encoder."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from s2s.errors import UserError
from s2s.nn.lengths import valid_mask


class ConvolutionSubsampling(nn.Module):
    """Two 3x3 convolutions of stride 2, so 4 times fewer frames: (B,S,F) -> (B,T,D), T = ((S-1)//2 - 1)//2.

    Without padding, an output frame never sees past the end of its own utterance. An utterance shorter than one
    output frame's view (7 frames) is continued with zeros and gives one frame.
    """

    view = 7  # input frames that one output frame sees

    def __init__(self, input_dim: int, model_dim: int, channels: int, dropout: float) -> None:
        super().__init__()
        if input_dim < self.view:
            raise UserError(f"input_dim={input_dim}: convolutional subsampling needs at least {self.view} feature bins")
        self.convolution = nn.Sequential(
            nn.Conv2d(1, channels, 3, 2), nn.ReLU(), nn.Conv2d(channels, channels, 3, 2), nn.ReLU()
        )
        self.out = nn.Linear(channels * (((input_dim - 1) // 2 - 1) // 2), model_dim)
        self.dropout = nn.Dropout(dropout)

    @staticmethod
    def output_lengths(lengths: Tensor) -> Tensor:
        """Encoder frames T of S input frames (B,); at least one."""
        return (((lengths - 1) // 2 - 1) // 2).clamp(min=1)

    def forward(self, source: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """source (B,S,F), lengths (B,) -> frames (B,T,D), lengths (B,)"""
        source = source.masked_fill(~valid_mask(lengths, source.size(1)).unsqueeze(-1), 0.0)
        source = F.pad(source, (0, 0, 0, max(0, self.view - source.size(1))))
        x = self.convolution(source.unsqueeze(1))  # (B,channels,T,F')
        return self.dropout(self.out(x.transpose(1, 2).flatten(2))), self.output_lengths(lengths)


class ConvolutionFront(nn.Module):
    """Two convolutions over 3 frames with GELU, the second of stride 2: (B,S,F) -> (B,T,D), T = S/2, rounded up.

    The front of Whisper's encoder (Radford et al. 2022, section 2.2). Past its end an utterance sees zeros, as it would
    alone.
    """

    subsampling_factor = 2

    def __init__(self, input_dim: int, model_dim: int) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            (nn.Conv1d(input_dim, model_dim, 3, padding=1), nn.Conv1d(model_dim, model_dim, 3, stride=2, padding=1))
        )

    @staticmethod
    def output_lengths(lengths: Tensor) -> Tensor:
        """Encoder frames T of S input frames (B,)."""
        return (lengths + 1) // 2

    def forward(self, source: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """source (B,S,F), lengths (B,) -> frames (B,T,D), lengths (B,)"""
        x = source.transpose(1, 2)
        padding = ~valid_mask(lengths, source.size(1)).unsqueeze(1)
        for convolution in self.convolutions:
            x = F.gelu(convolution(x.masked_fill(padding, 0.0)))
        return x.transpose(1, 2), self.output_lengths(lengths)
