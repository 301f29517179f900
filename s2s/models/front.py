"""What an encoder begins with."""

from __future__ import annotations

from typing import Protocol, cast

from torch import Tensor, nn

from s2s.errors import UserError


class Front(Protocol):
    """Anything that turns features or tokens into vectors, perhaps fewer."""

    model_dim: int
    subsampling_factor: int
    view: int | None  # source frames that a vector is made of; None: there are some before the first and after the last

    def __call__(self, source: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """source (B,S,F) or (B,S), lengths (B,) -> vectors (B,T,D), lengths (B,)"""
        ...

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """How many vectors (B,) come of `lengths` source frames or tokens (B,)."""
        ...


def front_of(front: nn.Module, model_dim: int) -> Front:
    """`front`, where it is one for an encoder of that width; UserError otherwise."""
    width = getattr(front, "model_dim", None)
    if width is None:
        raise UserError(
            f"front: {type(front).__name__} is none; expected ConvolutionSubsampling or ConvolutionFront of "
            "s2s.nn.subsampling, or TokenFront of s2s.nn.embedding"
        )
    if width != model_dim:
        raise UserError(f"front.model_dim={width}: expected that of the encoder, model_dim={model_dim}")
    return cast(Front, front)
