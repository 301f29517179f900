"""The Conformer encoder."""

from __future__ import annotations

from torch import Tensor, nn

from s2s.models.memory import Memory
from s2s.nn.attention.config import Attentions, of_layer
from s2s.nn.attention.scores import key_bias
from s2s.nn.conformer import ConformerBlock
from s2s.nn.lengths import valid_mask
from s2s.nn.positions import Positions
from s2s.nn.subsampling import ConvolutionSubsampling


class ConformerEncoder(nn.Module):
    """Convolutional subsampling by 4, then Conformer blocks (Gulati et al. 2020).

    `subsampling_channels` is the width of the two subsampling convolutions, `kernel_size` (odd) the reach in frames of
    the depthwise convolution in each block.
    """

    def __init__(
        self,
        input_dim: int,
        model_dim: int = 256,
        num_layers: int = 12,
        num_heads: int = 4,
        feed_forward_dim: int = 2048,
        kernel_size: int = 31,
        subsampling_channels: int = 256,
        dropout: float = 0.1,
        positions: str = "relative",
        max_positions: int = 0,
        attention: Attentions = None,
    ) -> None:
        super().__init__()
        self.model_dim = model_dim
        self.subsampling_factor = 4
        self.subsampling = ConvolutionSubsampling(input_dim, model_dim, subsampling_channels, dropout)
        self.positions = Positions(positions, model_dim, max_positions)
        self.blocks = nn.ModuleList(
            ConformerBlock(
                model_dim, num_heads, feed_forward_dim, kernel_size, dropout, positions, of_layer(attention, i)
            )
            for i in range(num_layers)
        )

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Memory frames (B,) of source frames (B,)."""
        return self.subsampling.output_lengths(lengths)

    def forward(self, source: Tensor, lengths: Tensor) -> Memory:
        """source (B,S,F), lengths (B,) -> Memory with T about S/4 frames"""
        x, lengths = self.subsampling(source, lengths)
        x = x + self.positions.first(x.size(1), x.device).to(x.dtype)
        valid = valid_mask(lengths, x.size(1))
        bias = key_bias(valid, x)
        for block in self.blocks:
            x = block(x, valid, bias)
        return Memory(x, lengths)
