"""The Transformer encoder, over features or over text."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from s2s.models.intermediate_ctc import IntermediateCTC
from s2s.models.layer_outputs import LayerFusionConfig, LayerOutputs
from s2s.models.memory import Memory
from s2s.models.streaming_encoder import DynamicChunks, StreamingEncoder
from s2s.nn.attention.config import Attentions, of_layer
from s2s.nn.attention.scores import key_bias
from s2s.nn.dropout import Dropout
from s2s.nn.feed_forward import FeedForward, Shared
from s2s.nn.frames import Frames, Whole
from s2s.nn.language_feed_forward import LanguageLayersConfig, of_languages
from s2s.nn.layer_drop import LayerDrop
from s2s.nn.positions import Positions
from s2s.nn.transformer import TransformerLayer, activation_module


class TransformerEncoder(StreamingEncoder):
    """A front that turns the source into vectors, positions, and Transformer layers (Vaswani et al. 2017, section 3.1).

    `front` is a module such as `ConvolutionFront` or `TokenFront`; the other options are as in `TransformerDecoder`.
    Where `shared_feed_forward`, all layers have the same one (Pires et al. 2023, arXiv:2309.01826); `language_layers`
    have one for each language; a training leaves layers out as `LayerDrop` says.
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
        shared_feed_forward: bool = False,
        layer_fusion: LayerFusionConfig | None = None,
        dynamic_chunks: DynamicChunks | None = None,
        language_layers: LanguageLayersConfig | None = None,
        layer_drop: float = 0.0,
    ) -> None:
        super().__init__(front, model_dim, Positions(positions, model_dim, max_positions), dynamic_chunks)
        self.num_layers = num_layers
        self.norm_embedding = nn.LayerNorm(model_dim) if norm_embedding else nn.Identity()
        self.feed_forward = (
            FeedForward(model_dim, feed_forward_dim, dropout, activation_module(activation))
            if shared_feed_forward
            else None
        )
        shared = Shared(self.feed_forward) if self.feed_forward else None
        chosen = of_languages(
            language_layers, num_layers, model_dim, feed_forward_dim, dropout, activation_module(activation)
        )
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
                instead=chosen[i] or shared,
            )
            for i in range(num_layers)
        )
        self.norm = nn.LayerNorm(model_dim) if final_norm else nn.Identity()
        self.dropout = Dropout(dropout)
        self.layer_drop = LayerDrop(num_layers, layer_drop)
        self.outputs = LayerOutputs(layer_fusion, num_layers)
        self.check_dynamic_chunks()

    def memory_of(self, x: Tensor, positions: Tensor, counts: Tensor) -> Memory:
        """What the layers make of frames (B,T,D) at positions (B,T,D) or (T,D), counts (B,T) as in a Memory."""
        lengths, x = (counts > 0).sum(dim=1), x + positions.to(x.dtype)
        memory = self.through(x, lengths, Whole(counts > 0, key_bias(counts, x)), None)
        return memory if counts.dtype == torch.bool else replace(memory, counts=counts)

    def through(self, x: Tensor, lengths: Tensor, frames: Frames, ctc: IntermediateCTC | None) -> Memory:
        x = self.dropout(self.norm_embedding(x))
        run = self.outputs.run(x, lengths, self.norm, ctc)
        for layer, kept in zip(self.layers, self.layer_drop.kept(), strict=True):
            x = run.after(layer(x, frames.attend, languages=frames.languages)[0] if kept else x)
        return run.memory()
