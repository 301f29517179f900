"""The Transformer encoder, over features or over text."""

from __future__ import annotations

from torch import Tensor, nn

from s2s.models.memory import Memory
from s2s.nn.lengths import valid_mask
from s2s.nn.positions import Positions
from s2s.nn.transformer import TransformerLayer, everything


class TransformerEncoder(nn.Module):
    """A front that turns the source into vectors, positions, and Transformer layers (Vaswani et al. 2017, section 3.1).

    `front` is a module such as `ConvolutionFront` or `TokenFront`; the other options are as in `TransformerDecoder`.
    """

    def __init__(
        self,
        front: nn.Module,
        model_dim: int = 256,
        num_layers: int = 6,
        num_heads: int = 4,
        feed_forward_dim: int = 2048,
        dropout: float = 0.1,
        activation: str = "relu",
        pre_norm: bool = True,
        final_norm: bool = True,
        max_positions: int = 0,
        norm_embedding: bool = False,
    ) -> None:
        super().__init__()
        self.model_dim = model_dim
        self.front = front
        self.subsampling_factor: int = front.subsampling_factor  # type: ignore[assignment]
        self.positions = Positions(max_positions, model_dim)
        self.norm_embedding = nn.LayerNorm(model_dim) if norm_embedding else nn.Identity()
        self.layers: list[TransformerLayer] = nn.ModuleList(  # type: ignore[assignment]
            TransformerLayer(
                model_dim, num_heads, feed_forward_dim, dropout, False, activation=activation, pre_norm=pre_norm
            )
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(model_dim) if final_norm else nn.Identity()
        self.dropout = nn.Dropout(dropout)

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Memory frames (B,) of source frames or tokens (B,)."""
        return self.front.output_lengths(lengths)  # type: ignore[operator]

    def forward(self, source: Tensor, lengths: Tensor) -> Memory:
        """source (B,S,F) or tokens (B,S), lengths (B,) -> Memory"""
        x, lengths = self.front(source, lengths)
        x = self.dropout(self.norm_embedding(x + self.positions.first(x.size(1), x.device).to(x.dtype)))
        valid = valid_mask(lengths, x.size(1))
        # Without padding there is no need of a mask, and attention is quicker without.
        past = everything(None if bool(valid.all()) else valid[:, None, None, :])
        for layer in self.layers:
            x, _ = layer(x, past)
        return Memory(self.norm(x), lengths)
