"""Tokens to vectors, before an encoder."""

from __future__ import annotations

import math

from torch import Tensor, nn


class TokenFront(nn.Module):
    """The embedding of tokens (B,S) -> (B,S,D), times the root of D where `scale` (Vaswani et al. 2017, 3.4)."""

    subsampling_factor = 1

    def __init__(self, vocab_size: int, model_dim: int, scale: bool = True) -> None:
        super().__init__()
        self.model_dim, self.view = model_dim, 1
        self.embedding = nn.Embedding(vocab_size, model_dim)
        nn.init.normal_(self.embedding.weight, std=model_dim**-0.5)
        self.scale = math.sqrt(model_dim) if scale else 1.0

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """The same lengths (B,)."""
        return lengths

    def forward(self, source: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """tokens (B,S), lengths (B,) -> (B,S,D), lengths"""
        return self.embedding(source) * self.scale, lengths
