"""The Conformer block."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from s2s.errors import UserError
from s2s.nn.attention.attention import Attention
from s2s.nn.attention.config import AttentionConfig
from s2s.nn.feed_forward import FeedForward


class ConvolutionModule(nn.Module):
    """Gated depthwise convolution over time (Gulati et al. 2020, section 2.2).

    Layer normalisation stands where the paper has batch normalisation, whose statistics would take in padding and other
    utterances.
    """

    def __init__(self, model_dim: int, kernel_size: int, dropout: float) -> None:
        super().__init__()
        if kernel_size % 2 == 0:
            raise UserError(f"kernel_size={kernel_size}: an even kernel has no middle frame; use {kernel_size + 1}")
        self.gate = nn.Linear(model_dim, 2 * model_dim)
        self.depthwise = nn.Conv1d(model_dim, model_dim, kernel_size, padding=kernel_size // 2, groups=model_dim)
        self.norm = nn.LayerNorm(model_dim)
        self.out = nn.Linear(model_dim, model_dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """x (B,T,D), valid (B,T) -> (B,T,D); past its end every utterance sees zeros, as it would alone."""
        x = F.glu(self.gate(x), dim=-1).masked_fill(~valid.unsqueeze(-1), 0.0)
        x = self.depthwise(x.transpose(1, 2)).transpose(1, 2)
        return self.dropout(self.out(F.silu(self.norm(x))))


class ConformerBlock(nn.Module):
    """Half feed-forward, self-attention, convolution, half feed-forward (Gulati et al. 2020, eq. 1)."""

    def __init__(
        self,
        model_dim: int,
        num_heads: int,
        feed_forward_dim: int,
        kernel_size: int,
        dropout: float,
        positions: str = "relative",
        attention: AttentionConfig | None = None,
    ) -> None:
        super().__init__()
        self.feed_forward_in = FeedForward(model_dim, feed_forward_dim, dropout, nn.SiLU())
        self.attention = Attention(model_dim, num_heads, dropout, attention, positions)
        self.convolution = ConvolutionModule(model_dim, kernel_size, dropout)
        self.feed_forward_out = FeedForward(model_dim, feed_forward_dim, dropout, nn.SiLU())
        self.norm_feed_forward_in = nn.LayerNorm(model_dim)
        self.norm_attention = nn.LayerNorm(model_dim)
        self.norm_convolution = nn.LayerNorm(model_dim)
        self.norm_feed_forward_out = nn.LayerNorm(model_dim)
        self.norm = nn.LayerNorm(model_dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, valid: Tensor, bias: Tensor | None) -> Tensor:
        """x (B,T,D), valid (B,T), a bias over keys (B,1,1,T) as in `Softmax.forward` -> (B,T,D)"""
        x = x + 0.5 * self.feed_forward_in(self.norm_feed_forward_in(x))
        x = x + self.dropout(self.attention.within(self.norm_attention(x), bias))
        x = x + self.convolution(self.norm_convolution(x), valid)
        x = x + 0.5 * self.feed_forward_out(self.norm_feed_forward_out(x))
        return self.norm(x)
