"""Position-wise feed-forward layer."""

from __future__ import annotations

from torch import Tensor, nn

from s2s.errors import UserError
from s2s.nn.dropout import Dropout
from s2s.nn.linear import Linear


class FeedForward(nn.Module):
    """Linear, activation, dropout, linear, dropout: (..., D) -> (..., D).

    `activation` is a module: ReLU in the Transformer (Vaswani et al. 2017, eq. 2), SiLU in the Conformer.
    """

    def __init__(self, model_dim: int, hidden_dim: int, dropout: float, activation: nn.Module) -> None:
        super().__init__()
        if hidden_dim < 1:
            raise UserError(f"feed_forward_dim={hidden_dim}: expected at least 1")
        self.expand = Linear(model_dim, hidden_dim)
        self.activation = activation
        self.contract = Linear(hidden_dim, model_dim)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.contract(self.dropout(self.activation(self.expand(x)))))


class Shared:
    """The feed-forward of an encoder, for use in its layers (Pires et al. 2023, arXiv:2309.01826).

    It is no part of the layers that use it, so its parameters are stored once, with the encoder.
    """

    def __init__(self, feed_forward: FeedForward) -> None:
        self.feed_forward = feed_forward

    def __call__(self, x: Tensor) -> Tensor:
        result: Tensor = self.feed_forward(x)
        return result
