"""The E-Branchformer encoder."""

from __future__ import annotations

from torch import nn

from s2s.models.block_encoder import BlockEncoder
from s2s.models.layer_outputs import LayerFusionConfig
from s2s.models.streaming_encoder import DynamicChunks
from s2s.nn.attention.config import Attentions, of_layer
from s2s.nn.branchformer import BranchformerBlock
from s2s.nn.feed_forward import FeedForward, Shared


class BranchformerEncoder(BlockEncoder):
    """A front and E-Branchformer blocks (Kim et al. 2022, arXiv:2210.00077).

    `gating_dim` is the width of the local branch before one half of it gates the other, `kernel_size` (odd) the reach
    in frames of the convolutions in the local branch and in the merging; other options are as in `ConformerEncoder`.
    """

    def __init__(
        self,
        front: nn.Module,
        model_dim: int = 256,
        num_layers: int = 12,
        num_heads: int = 4,
        feed_forward_dim: int = 1024,
        gating_dim: int = 1536,
        kernel_size: int = 31,
        dropout: float = 0.1,
        positions: str = "relative",
        max_positions: int = 0,
        attention: Attentions = None,
        shared_feed_forward: bool = False,
        layer_fusion: LayerFusionConfig | None = None,
        convolution: str = "symmetric",
        dynamic_chunks: DynamicChunks | None = None,
        layer_drop: float = 0.0,
    ) -> None:
        feed_forward = FeedForward(model_dim, feed_forward_dim, dropout, nn.SiLU()) if shared_feed_forward else None
        shared = Shared(feed_forward) if feed_forward else None
        blocks = [
            BranchformerBlock(
                model_dim,
                num_heads,
                feed_forward_dim,
                gating_dim,
                kernel_size,
                dropout,
                positions,
                of_layer(attention, i),
                shared,
                convolution,
            )
            for i in range(num_layers)
        ]
        super().__init__(
            front, model_dim, blocks, positions, max_positions, feed_forward, layer_fusion, dynamic_chunks, layer_drop
        )
