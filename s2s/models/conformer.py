"""The Conformer encoder."""

from __future__ import annotations

from torch import nn

from s2s.models.block_encoder import BlockEncoder
from s2s.models.layer_outputs import LayerFusionConfig
from s2s.models.streaming_encoder import DynamicChunks
from s2s.nn.attention.config import Attentions, of_layer
from s2s.nn.conformer import ConformerBlock
from s2s.nn.feed_forward import FeedForward, Shared
from s2s.nn.language_feed_forward import LanguageLayersConfig, of_languages


class ConformerEncoder(BlockEncoder):
    """A front and Conformer blocks (Gulati et al. 2020); with the right front, Fast Conformer (Rekesh et al. 2023).

    `front` is a module such as `ConvolutionSubsampling`; `kernel_size` (odd) is the reach in frames of the depthwise
    convolution in each block, `convolution` its kind (see `DepthwiseConvolution`). Where `shared_feed_forward`, there
    is one for all places (Pires et al. 2023); the second one of `language_layers` is chosen by language, among several.
    With `dynamic_chunks` it is trained to be streamed; a training leaves layers out as `LayerDrop` says.
    """

    def __init__(
        self,
        front: nn.Module,
        model_dim: int = 256,
        num_layers: int = 12,
        num_heads: int = 4,
        feed_forward_dim: int = 2048,
        kernel_size: int = 31,
        dropout: float = 0.1,
        positions: str = "relative",
        max_positions: int = 0,
        attention: Attentions = None,
        shared_feed_forward: bool = False,
        layer_fusion: LayerFusionConfig | None = None,
        convolution: str = "symmetric",
        dynamic_chunks: DynamicChunks | None = None,
        language_layers: LanguageLayersConfig | None = None,
        layer_drop: float = 0.0,
    ) -> None:
        feed_forward = FeedForward(model_dim, feed_forward_dim, dropout, nn.SiLU()) if shared_feed_forward else None
        shared = Shared(feed_forward) if feed_forward else None
        chosen = of_languages(language_layers, num_layers, model_dim, feed_forward_dim, dropout, nn.SiLU())
        blocks = [
            ConformerBlock(
                model_dim,
                num_heads,
                feed_forward_dim,
                kernel_size,
                dropout,
                positions,
                of_layer(attention, i),
                shared,
                convolution,
                chosen[i],
            )
            for i in range(num_layers)
        ]
        super().__init__(
            front, model_dim, blocks, positions, max_positions, feed_forward, layer_fusion, dynamic_chunks, layer_drop
        )
