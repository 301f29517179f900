"""Position-wise feed-forward layer."""

from __future__ import annotations

from torch import Tensor, nn


class FeedForward(nn.Module):
    """Linear, activation, dropout, linear, dropout: (..., D) -> (..., D).

    `activation` is a module: ReLU in the Transformer (Vaswani et al. 2017, eq. 2), SiLU in the Conformer.
    """

    def __init__(self, model_dim: int, hidden_dim: int, dropout: float, activation: nn.Module) -> None:
        super().__init__()
        self.expand = nn.Linear(model_dim, hidden_dim)
        self.activation = activation
        self.contract = nn.Linear(hidden_dim, model_dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.contract(self.dropout(self.activation(self.expand(x)))))
