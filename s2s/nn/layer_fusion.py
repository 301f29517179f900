"""What is made of the outputs of several layers, besides handing each to the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from s2s.errors import UserError, nearest
from s2s.nn.attention.attention import Attention
from s2s.nn.attention.multi_head import Cached

MODES = ("hard", "soft")


def check_layers(key: str, layers: Sequence[int], num_layers: int) -> None:
    """UserError unless `layers` are numbers, from 1, of different layers below the last of `num_layers`."""
    if not layers or len(set(layers)) < len(layers) or not all(1 <= layer < num_layers for layer in layers):
        raise UserError(
            f"{key}.layers={list(layers)}: expected numbers of different layers below the last one, "
            f"of {num_layers}: from 1 to {num_layers - 1}"
        )


class GroupFusion(nn.Module):
    """h = 1/M sum_m σ(w_m) h_m over the last layers h_m of M groups of layers, w learned from 0.

    The norm that follows is the caller's (GTrans: Yang et al. 2022, arXiv:2207.14467; the form that is for encoders).
    Raises UserError where the layers do not divide into groups of `group_size`.
    """

    def __init__(self, num_layers: int, group_size: int) -> None:
        super().__init__()
        if not 1 <= group_size <= num_layers or num_layers % group_size:
            raise UserError(f"group_size={group_size}: num_layers={num_layers} do not divide into groups of that size")
        self.group_size = group_size
        self.weight = nn.Parameter(torch.zeros(num_layers // group_size))

    def ends(self, number: int) -> bool:
        """Whether the layer of that number, from 1, is the last one of a group."""
        return number % self.group_size == 0

    def forward(self, outputs: Sequence[Tensor]) -> Tensor:
        """What the last layer of each group gives, (...,D) each -> (...,D)"""
        weights = self.weight.sigmoid() / len(self.weight)
        return sum((w * h for w, h in zip(weights, outputs, strict=True)), torch.zeros_like(outputs[0]))


@dataclass(frozen=True)
class SurfaceFusionConfig:
    """How a decoder takes the surface of the source into its output.

    Attributes:
        mode: "hard" adds log-probabilities, "soft" makes those of the surface a bias of the logits.
        weight: of the decoder, where hard; the surface has the rest.
        temperature: by which the logits of the surface are divided, where soft.
    """

    mode: str = "hard"
    weight: float = 0.8
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise UserError(f"mode={self.mode}: expected one of {', '.join(MODES)}.{nearest(self.mode, MODES)}")
        if not 0.0 <= self.weight <= 1.0:
            raise UserError(f"weight={self.weight}: expected a share, from 0 (surface alone) to 1 (decoder alone)")
        if not self.temperature > 0.0:
            raise UserError(f"temperature={self.temperature}: expected a number above 0")
        for key, mode, default in (("weight", "hard", 0.8), ("temperature", "soft", 1.0)):
            if self.mode != mode and getattr(self, key) != default:
                raise UserError(f"{key}={getattr(self, key)}: has no effect with mode={self.mode}; leave it out")


class SurfaceFusion(nn.Module):
    """A look at the surface of the source, what the encoder's first layer is given, and its part in the output.

    The last decoder layer attends to the encoder's states, but what it finds there are vectors of the surface; of them
    the output layer makes logits too (Liu et al. 2021, arXiv:2012.14768, section 4). No gradient goes through queries
    and keys, as in the authors' release.
    """

    def __init__(self, config: SurfaceFusionConfig, model_dim: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.config = config
        self.attention = Attention(model_dim, num_heads, dropout, over_memory=True)

    def project(self, states: Tensor, surface: Tensor) -> Cached:
        """States and surface (B,T,D) -> keys and values (B,H,T,d)"""
        heads = self.attention.heads
        return heads.split(heads.key(states.detach())), heads.split(heads.value(surface))

    def forward(self, x: Tensor, cached: Cached, bias: Tensor | None) -> Tensor:
        """x (A,U,D), A a multiple of B, over what `project` made of B utterances -> (A,U,D)"""
        query = x.detach().view(cached[0].size(0), -1, x.size(-1))
        return self.attention.over(query, cached, bias)[0].view_as(x)

    def log_probs(self, logits: Tensor, surface_logits: Tensor) -> Tensor:
        """Logits (...,V) of decoder and surface, z and z' -> log-probabilities (...,V).

        λ log softmax(z) + (1-λ) log softmax(z') where hard, not normalised: probabilities sum to at most 1;
        log softmax(z + log softmax(z'/τ)) where soft.
        """
        if self.config.mode == "soft":
            return (logits + (surface_logits / self.config.temperature).log_softmax(dim=-1)).log_softmax(dim=-1)
        weight = self.config.weight
        return weight * logits.log_softmax(dim=-1) + (1.0 - weight) * surface_logits.log_softmax(dim=-1)
