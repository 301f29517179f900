"""The bidirectional LSTM encoder."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from s2s.errors import UserError
from s2s.models.front import Front, front_of
from s2s.models.intermediate_ctc import IntermediateCTC
from s2s.models.layer_outputs import LayerFusionConfig, LayerOutputs
from s2s.models.memory import Memory
from s2s.nn.dropout import Dropout
from s2s.nn.lengths import valid_mask
from s2s.nn.recurrent import BidirectionalLSTM, stacked


class LSTMEncoder(nn.Module):
    """A front and layers of bidirectional LSTMs, with a pyramid on request (Chan et al. 2016, arXiv:1508.01211).

    `hidden_dim` is the size of a layer in each direction (0: half of `model_dim`); where twice that is not `model_dim`,
    each layer ends in a linear projection to it. `pyramid`: how many frames become one after the first layer, the
    second and so on, so [2, 2] gives a quarter of the frames. `dropout` is between layers.
    """

    def __init__(
        self,
        front: nn.Module,
        model_dim: int = 512,
        num_layers: int = 4,
        hidden_dim: int = 0,
        pyramid: Sequence[int] = (),
        dropout: float = 0.1,
        layer_fusion: LayerFusionConfig | None = None,
    ) -> None:
        super().__init__()
        if hidden_dim < 0 or (not hidden_dim and model_dim % 2):
            raise UserError(
                f"hidden_dim={hidden_dim}: expected the size of each direction, or 0 for half of an even model_dim "
                f"(here {model_dim})"
            )
        if not isinstance(pyramid, list | tuple) or not all(isinstance(size, int) and size > 0 for size in pyramid):
            raise UserError(f"pyramid={pyramid}: expected a list of numbers of frames, such as [2, 2]")
        if pyramid and len(pyramid) >= num_layers:
            raise UserError(
                f"pyramid={list(pyramid)}: has no place between {num_layers} layers; expected at most {num_layers - 1} "
                "numbers"
            )
        if pyramid and layer_fusion is not None:
            raise UserError(
                f"layer_fusion: layers of a pyramid={list(pyramid)} differ in frames; leave one of them out"
            )
        hidden_dim = hidden_dim or model_dim // 2
        self.model_dim, self.num_layers = model_dim, num_layers
        self.front: Front = front_of(front, model_dim)
        self.subsampling_factor = self.front.subsampling_factor * math.prod(pyramid)
        self.stacked = [1, *pyramid, *[1] * (num_layers - 1 - len(pyramid))]  # frames that are one to each layer
        self.layers = nn.ModuleList(BidirectionalLSTM(model_dim * size, hidden_dim) for size in self.stacked)
        self.projections = nn.ModuleList(
            nn.Linear(2 * hidden_dim, model_dim) if 2 * hidden_dim != model_dim else nn.Identity() for _ in self.layers
        )
        self.dropout = Dropout(dropout)
        self.outputs = LayerOutputs(layer_fusion, num_layers)
        self.norm = nn.LayerNorm(model_dim) if self.outputs.groups is not None else nn.Identity()

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Memory frames (B,) of source frames or tokens (B,)."""
        lengths = self.front.output_lengths(lengths)
        for size in self.stacked:
            lengths = (lengths + size - 1) // size
        return lengths

    def forward(self, source: Tensor, lengths: Tensor, ctc: IntermediateCTC | None = None) -> Memory:
        """source (B,S,F) or tokens (B,S), lengths (B,) -> Memory"""
        x, lengths = self.front(source, lengths)
        run = self.outputs.run(x, lengths, self.norm, ctc)
        for i, (size, layer, projection) in enumerate(zip(self.stacked, self.layers, self.projections, strict=True)):
            x = stacked(x.masked_fill(~valid_mask(lengths, x.size(1)).unsqueeze(-1), 0.0), size)
            lengths = (lengths + size - 1) // size
            x = run.after(projection(layer(self.dropout(x) if i else x, lengths)), lengths)
        return run.memory()
