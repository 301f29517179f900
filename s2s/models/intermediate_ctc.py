"""CTC outputs of intermediate layers of an encoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from s2s.errors import UserError
from s2s.models.ctc import CTC
from s2s.models.memory import Memory
from s2s.nn.layer_fusion import check_layers


@dataclass(frozen=True)
class IntermediateCTCConfig:
    """Which layers of an encoder have a CTC output besides the last one.

    Attributes:
        layers: their numbers, from 1.
        weight: share of the mean of their losses in the CTC loss of a training; the last layer has the rest.
        self_conditioned: what they say is fed back to the layers after them.
    """

    layers: Sequence[int]
    weight: float = 0.3
    self_conditioned: bool = False

    def __post_init__(self) -> None:
        if not 0.0 <= self.weight <= 1.0:
            raise UserError(f"weight={self.weight}: expected a share, from 0 to 1")


class IntermediateCTC(CTC):
    """A CTC output layer that is also that of intermediate layers (Lee & Watanabe 2021, arXiv:2102.03216).

    Where `self_conditioned`, the posteriors there, through a linear layer of which there is one for all of them, are
    added to what the next layer is given (Nozaki & Komatsu 2021, arXiv:2104.02724). The losses are those of a training;
    otherwise intermediate layers cost nothing unless they are fed back.

    Raises UserError where the encoder has no such layers to give.
    """

    def __init__(
        self,
        config: IntermediateCTCConfig,
        encoder: nn.Module,
        vocab_size: int,
        blank_id: int = 0,
    ) -> None:
        memory_dim: int = encoder.model_dim  # type: ignore[assignment]
        super().__init__(memory_dim, vocab_size, blank_id)
        num_layers = getattr(encoder, "num_layers", None)
        if num_layers is None:
            raise UserError(f"intermediate_ctc: {type(encoder).__name__} gives no intermediate layers; leave it out")
        check_layers("intermediate_ctc", config.layers, num_layers)
        self.layers, self.weight = tuple(config.layers), config.weight
        self.condition = nn.Linear(vocab_size, memory_dim) if config.self_conditioned else None

    def after(
        self, number: int, x: Tensor, lengths: Tensor, norm: Callable[[Tensor], Tensor], kept: dict[int, Memory]
    ) -> Tensor:
        """What the layer of that number, from 1, gives (B,T,D), lengths (B,) -> what the next one is given (B,T,D).

        `norm` makes of it what the output layer sees, X', which in a training is kept for the loss. Where it is fed
        back, the next layer is given X + W softmax(V X').
        """
        if number not in self.layers or not (self.training or self.condition is not None):
            return x
        states = norm(x)
        if self.training:
            kept[number] = Memory(states, lengths)
        return x if self.condition is None else x + self.condition(self.out(states).softmax(dim=-1))

    def intermediate_loss(self, memory: Memory, target: Tensor, target_lengths: Tensor) -> Tensor | None:
        """The mean over layers of -log P(target | layer) in nats, (B,); None where the memory has none of them."""
        losses = [self.loss(memory.layers[i], target, target_lengths) for i in self.layers if i in memory.layers]
        return torch.stack(losses).mean(dim=0) if losses else None
