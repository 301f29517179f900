"""The Transformer encoder, over features or over text."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from s2s.models.memory import Memory
from s2s.nn.attention.config import Attentions, of_layer
from s2s.nn.attention.scores import key_bias
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
        positions: str = "sinusoidal",
        max_positions: int = 0,
        norm_embedding: bool = False,
        attention: Attentions = None,
    ) -> None:
        super().__init__()
        self.model_dim = model_dim
        self.front = front
        self.subsampling_factor: int = front.subsampling_factor  # type: ignore[assignment]
        self.positions = Positions(positions, model_dim, max_positions)
        self.norm_embedding = nn.LayerNorm(model_dim) if norm_embedding else nn.Identity()
        self.layers: list[TransformerLayer] = nn.ModuleList(  # type: ignore[assignment]
            TransformerLayer(
                model_dim,
                num_heads,
                feed_forward_dim,
                dropout,
                over_memory=False,
                activation=activation,
                pre_norm=pre_norm,
                positions=positions,
                self_attention=of_layer(attention, i),
            )
            for i in range(num_layers)
        )
        self.norm = nn.LayerNorm(model_dim) if final_norm else nn.Identity()
        self.dropout = nn.Dropout(dropout)

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Memory frames (B,) of source frames or tokens (B,)."""
        return self.front.output_lengths(lengths)  # type: ignore[operator]

    def forward(self, source: Tensor, lengths: Tensor) -> Memory:
        """source (B,S,F) or tokens (B,S), lengths (B,) -> Memory"""
        x, lengths = self.front(source, lengths)
        positions = self.positions.first(x.size(1), x.device)
        return self.memory_of(x, positions, Memory(x, lengths).frame_counts)

    def memory_of(self, x: Tensor, positions: Tensor, counts: Tensor) -> Memory:
        """What the layers make of frames (B,T,D) at positions (B,T,D) or (T,D), counts (B,T) as in a Memory."""
        x = self.dropout(self.norm_embedding(x + positions.to(x.dtype)))
        bias = key_bias(counts, x)
        for layer in self.layers:
            x, _ = layer(x, everything(bias))
        return Memory(self.norm(x), (counts > 0).sum(dim=1), counts=None if counts.dtype == torch.bool else counts)
