"""What encoders of self-attention and convolution have in common."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from s2s.models.intermediate_ctc import IntermediateCTC
from s2s.models.layer_outputs import LayerFusionConfig, LayerOutputs
from s2s.models.memory import Memory
from s2s.models.streaming_encoder import DynamicChunks, StreamingEncoder
from s2s.nn.feed_forward import FeedForward
from s2s.nn.frames import Frames
from s2s.nn.layer_drop import LayerDrop
from s2s.nn.positions import Positions


class BlockEncoder(StreamingEncoder):
    """A front that turns the source into vectors, positions, and blocks that look at other frames.

    A block takes x (B,T,D) and its `Frames`, as `ConformerBlock`; `feed_forward` is what blocks share.
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
        dynamic_chunks: DynamicChunks | None,
        layer_drop: float,
    ) -> None:
        super().__init__(front, model_dim, Positions(positions, model_dim, max_positions), dynamic_chunks)
        self.feed_forward = feed_forward
        self.blocks = nn.ModuleList(blocks)
        self.num_layers = len(self.blocks)
        self.layer_drop = LayerDrop(self.num_layers, layer_drop)
        self.outputs = LayerOutputs(layer_fusion, self.num_layers)
        self.norm = nn.LayerNorm(model_dim) if self.outputs.groups is not None else nn.Identity()
        self.check_dynamic_chunks()

    def through(self, x: Tensor, lengths: Tensor, frames: Frames, ctc: IntermediateCTC | None) -> Memory:
        run = self.outputs.run(x, lengths, self.norm, ctc)
        for block, kept in zip(self.blocks, self.layer_drop.kept(), strict=True):
            x = run.after(block(x, frames) if kept else x)
        return run.memory()
