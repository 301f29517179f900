"""Classifiers of intermediate decoder layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from s2s.errors import UserError
from s2s.nn.layer_fusion import check_layers


@dataclass(frozen=True)
class ClassifiersConfig:
    """Which layers of a decoder predict the next token besides the last one.

    Attributes:
        layers: their numbers, from 1.
        weights: share of the loss of each in a training; the last layer has the rest.
        per_token: where the classifiers answer together, each has a learned weight for every token, and not one for
            all.
    """

    layers: Sequence[int]
    weights: Sequence[float]
    per_token: bool = False

    def __post_init__(self) -> None:
        if len(self.weights) != len(self.layers):
            raise UserError(f"weights={list(self.weights)}: expected {len(self.layers)}, one for each of the layers")
        if not (all(0.0 <= weight <= 1.0 for weight in self.weights) and sum(self.weights) <= 1.0):
            raise UserError(f"weights={list(self.weights)}: expected shares, from 0 to 1 and together at most 1")


class AuxiliaryClassifiers(nn.Module):
    """Predictions of intermediate decoder layers, which regularise a training (DeCRED: Polok et al. 2024 and 2025).

    The loss is L = sum_d β_d L_d over all classifiers, the last layer's own among them (arXiv:2410.17437,
    arXiv:2508.08938). After it, the last one answers alone, or all together: z = sum_d α_d z_d, with an α for each
    classifier, or for each classifier and token. These begin as β and learn from the logits as they are: no gradient
    goes from them into the classifiers, which are what they would be without.
    """

    def __init__(self, config: ClassifiersConfig, num_layers: int, model_dim: int, vocab_size: int) -> None:
        super().__init__()
        check_layers("classifiers", config.layers, num_layers)
        self.layers = tuple(config.layers)
        self.weights = (*config.weights, 1.0 - sum(config.weights))
        self.out = nn.ModuleList(nn.Linear(model_dim, vocab_size, bias=False) for _ in self.layers)
        columns = vocab_size if config.per_token else 1
        self.mix = nn.Parameter(torch.tensor(self.weights).unsqueeze(1).repeat(1, columns))

    def forward(self, outputs: Sequence[Tensor]) -> list[Tensor]:
        """What their layers give, (...,D) each, and perhaps others after them -> logits (...,V) of each"""
        return [out(x) for out, x in zip(self.out, outputs, strict=False)]

    def mixed(self, logits: Sequence[Tensor]) -> Tensor:
        """Logits (...,V) of all, the last layer's at the end -> those of all together"""
        weighted = [weight * each for weight, each in zip(self.mix, logits, strict=True)]
        return torch.stack(weighted).sum(dim=0)

    def loss(
        self, logits: Sequence[Tensor], last: Tensor, measure: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of all, and its parts by name: of logits (...,V) of all, and the `last` one's loss.

        `measure` makes losses of log-probabilities (...,V).
        """
        losses = [measure(each.log_softmax(dim=-1)) for each in logits[:-1]] + [last]
        loss = sum((w * each for w, each in zip(self.weights, losses, strict=True)), torch.zeros_like(last))
        mixed = measure(self.mixed([each.detach() for each in logits]).log_softmax(dim=-1))
        parts = {f"attention_layer_{layer}": each for layer, each in zip(self.layers, losses, strict=False)}
        # The second term is 0: it is there for its gradient, and the loss stays that of the paper.
        return loss + (mixed - mixed.detach()), {**parts, "attention_mixed": mixed}
