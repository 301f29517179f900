"""Fewer frames before the encoder."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from s2s.errors import UserError
from s2s.nn.dropout import Dropout
from s2s.nn.lengths import valid_mask
from s2s.nn.linear import Linear


class ConvolutionSubsampling(nn.Module):
    """3x3 convolutions of stride 2 over frames and bins, one for each halving: (B,S,F) -> (B,T,D), T about S/factor.

    `factor` is 1 (a linear layer alone), 2, 4 (Gulati et al. 2020, section 2) or any higher power of two. Where
    `separable`, all convolutions after the first are depthwise, each with a pointwise one behind it, as with factor 8
    in Fast Conformer (Rekesh et al. 2023, arXiv:2305.05084, section 2.1).

    Without padding, an output frame never sees past the end of its own utterance: it sees 2 factor - 1 frames, so
    T = (S+1)//factor - 1. An utterance shorter than that is continued with zeros and gives one frame; so are the bins.
    Convolutions are of a block of output frames at a time: of an hour at once, they would take gigabytes.
    """

    block_size = 1024

    def __init__(
        self,
        input_dim: int,
        model_dim: int,
        channels: int = 256,
        dropout: float = 0.1,
        factor: int = 4,
        separable: bool = False,
    ) -> None:
        super().__init__()
        if factor < 1 or factor & (factor - 1):
            raise UserError(f"factor={factor}: expected a power of two, such as 4 or 8")
        self.model_dim, self.subsampling_factor = model_dim, factor
        self.view = 2 * factor - 1  # input frames, and bins, that an output frame sees at once
        layers: list[nn.Module] = []
        for i in range(factor.bit_length() - 1):
            if i and separable:
                layers += nn.Conv2d(channels, channels, 3, 2, groups=channels), nn.Conv2d(channels, channels, 1)
            else:
                layers += [nn.Conv2d(channels if i else 1, channels, 3, 2)]
            layers += [nn.ReLU(inplace=True)]
        self.convolution = nn.Sequential(*layers)
        bins = (max(input_dim, self.view) + 1) // factor - 1
        self.out = Linear(bins * (channels if layers else 1), model_dim)
        self.dropout = Dropout(dropout)

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Encoder frames T of S input frames (B,); at least one."""
        return ((lengths + 1) // self.subsampling_factor - 1).clamp(min=1)

    def forward(self, source: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """source (B,S,F), lengths (B,) -> frames (B,T,D), lengths (B,)"""
        source = source.masked_fill(~valid_mask(lengths, source.size(1)).unsqueeze(-1), 0.0)
        source = F.pad(source, (0, max(0, self.view - source.size(2)), 0, max(0, self.view - source.size(1))))
        factor, size = self.subsampling_factor, self.block_size
        starts = range(0, (source.size(1) + 1) // factor - 1, size)
        frames = [self._subsampled(source[:, factor * i : factor * (i + size + 1) - 1]) for i in starts]
        return self.dropout(torch.cat(frames, dim=1)), self.output_lengths(lengths)

    def _subsampled(self, source: Tensor) -> Tensor:
        """(B,S,F) -> (B,T,D)"""
        x = self.convolution(source.unsqueeze(1))  # (B,channels,T,F')
        return self.out(x.transpose(1, 2).flatten(2))


class ConvolutionFront(nn.Module):
    """Two convolutions over 3 frames with GELU, the second of stride 2: (B,S,F) -> (B,T,D), T = S/2, rounded up.

    The front of Whisper's encoder (Radford et al. 2022, section 2.2). Past its end an utterance sees zeros, as it would
    alone.
    """

    subsampling_factor = 2
    view = None

    def __init__(self, input_dim: int, model_dim: int) -> None:
        super().__init__()
        self.model_dim = model_dim
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
