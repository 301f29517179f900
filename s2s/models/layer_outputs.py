"""What an encoder makes of the outputs of its layers, besides handing each to the next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from s2s.models.intermediate_ctc import IntermediateCTC
from s2s.models.memory import Memory
from s2s.nn.layer_fusion import GroupFusion

Norm = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class LayerFusionConfig:
    """Which layers of an encoder its memory is made of.

    Attributes:
        group_size: layers in each of the groups whose last layers are summed with learned weights (GTrans); null: the
            last layer alone.
        surface: the memory also has what the first layer is given, for a decoder with `surface_fusion`.
    """

    group_size: int | None = None
    surface: bool = False


class LayerOutputs(nn.Module):
    """Fusion of the layers of an encoder, and what of them goes elsewhere: `run` follows frames through the layers."""

    def __init__(self, config: LayerFusionConfig | None, num_layers: int) -> None:
        super().__init__()
        config = config or LayerFusionConfig()
        self.groups = None if config.group_size is None else GroupFusion(num_layers, config.group_size)
        self.surface = config.surface

    def run(self, x: Tensor, lengths: Tensor, norm: Norm, ctc: IntermediateCTC | None) -> LayerRun:
        """For one way of x (B,T,D), lengths (B,), through all layers; `norm` is what comes after the last of them."""
        return LayerRun(self, x, lengths, norm, ctc)


class LayerRun:
    """One way of frames through the layers of an encoder, each of which hands over what it gives here."""

    def __init__(
        self, outputs: LayerOutputs, x: Tensor, lengths: Tensor, norm: Norm, ctc: IntermediateCTC | None
    ) -> None:
        self.groups, self.norm, self.ctc = outputs.groups, norm, ctc
        self.kept = {0: Memory(x, lengths)} if outputs.surface else {}
        self.ends: list[Tensor] = []  # what the last layers of groups gave
        self.number, self.last, self.lengths = 0, x, lengths

    def after(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """What a layer gives (B,T,D) -> what the next one is given; `lengths` (B,) where they are new."""
        self.number, self.last = self.number + 1, x
        self.lengths = self.lengths if lengths is None else lengths
        if self.groups is not None and self.groups.ends(self.number):
            self.ends.append(x)
        return x if self.ctc is None else self.ctc.after(self.number, x, self.lengths, self.norm, self.kept)

    def memory(self) -> Memory:
        """The memory, after the last layer."""
        states = self.last if self.groups is None else self.groups(self.ends)
        return Memory(self.norm(states), self.lengths, layers=self.kept)
