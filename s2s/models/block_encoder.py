"""What encoders of self-attention and convolution have in common."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from s2s.models.front import Front, front_of
from s2s.models.intermediate_ctc import IntermediateCTC
from s2s.models.layer_outputs import LayerFusionConfig, LayerOutputs
from s2s.models.memory import Memory
from s2s.nn.attention.scores import key_bias
from s2s.nn.feed_forward import FeedForward
from s2s.nn.lengths import valid_mask
from s2s.nn.positions import Positions


class BlockEncoder(nn.Module):
    """A front that turns the source into vectors, positions, and blocks that need to know where padding is.

    A block takes x (B,T,D), valid (B,T) and a bias over keys (B,1,1,T), as `ConformerBlock`; `feed_forward` is what
    blocks share.
    """

    def __init__(
        self,
        front: nn.Module,
        model_dim: int,
        blocks: Iterable[nn.Module],
        positions: str,
        max_positions: int,
        feed_forward: FeedForward | None,
        layer_fusion: LayerFusionConfig | None,
    ) -> None:
        super().__init__()
        self.model_dim = model_dim
        self.front: Front = front_of(front, model_dim)
        self.subsampling_factor = self.front.subsampling_factor
        self.positions = Positions(positions, model_dim, max_positions)
        self.feed_forward = feed_forward
        self.blocks = nn.ModuleList(blocks)
        self.num_layers = len(self.blocks)
        self.outputs = LayerOutputs(layer_fusion, self.num_layers)
        self.norm = nn.LayerNorm(model_dim) if self.outputs.groups is not None else nn.Identity()

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Memory frames (B,) of source frames or tokens (B,)."""
        return self.front.output_lengths(lengths)

    def forward(self, source: Tensor, lengths: Tensor, ctc: IntermediateCTC | None = None) -> Memory:
        """source (B,S,F) or tokens (B,S), lengths (B,) -> Memory"""
        x, lengths = self.front(source, lengths)
        x = x + self.positions.first(x.size(1), x.device).to(x.dtype)
        valid = valid_mask(lengths, x.size(1))
        bias = key_bias(valid, x)
        run = self.outputs.run(x, lengths, self.norm, ctc)
        for block in self.blocks:
            x = run.after(block(x, valid, bias))
        return run.memory()
