"""The Conformer block."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from s2s.nn.attention.attention import Attention
from s2s.nn.attention.config import AttentionConfig
from s2s.nn.depthwise import DepthwiseConvolution
from s2s.nn.dropout import Dropout
from s2s.nn.feed_forward import FeedForward, Shared
from s2s.nn.frames import Frames
from s2s.nn.language_feed_forward import LanguageFeedForward, feed
from s2s.nn.linear import Linear


class ConvolutionModule(nn.Module):
    """Gated depthwise convolution over time (Gulati et al. 2020, section 2.2).

    Layer normalisation stands where the paper has batch normalisation, whose statistics would take in padding and other
    utterances.
    """

    def __init__(self, model_dim: int, kernel_size: int, dropout: float, convolution: str = "symmetric") -> None:
        super().__init__()
        self.gate = Linear(model_dim, 2 * model_dim)
        self.depthwise = DepthwiseConvolution(model_dim, kernel_size, convolution)
        self.norm = nn.LayerNorm(model_dim)
        self.out = Linear(model_dim, model_dim)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, frames: Frames) -> Tensor:
        """x (B,T,D) -> (B,T,D)"""
        x = frames.convolve(self.depthwise, F.glu(self.gate(x), dim=-1))
        return self.dropout(self.out(F.silu(self.norm(x))))


class ConformerBlock(nn.Module):
    """Half feed-forward, self-attention, convolution, half feed-forward (Gulati et al. 2020, eq. 1).

    Where there is a `shared` feed-forward, it takes the place of both; one `of_languages` that of the second.
    `convolution` is the kind of it.
    """

    def __init__(
        self,
        model_dim: int,
        num_heads: int,
        feed_forward_dim: int,
        kernel_size: int,
        dropout: float,
        positions: str = "relative",
        attention: AttentionConfig | None = None,
        shared: Shared | None = None,
        convolution: str = "symmetric",
        of_languages: LanguageFeedForward | None = None,
    ) -> None:
        super().__init__()
        self.feed_forward_in = shared or FeedForward(model_dim, feed_forward_dim, dropout, nn.SiLU())
        self.attention = Attention(model_dim, num_heads, dropout, attention, positions)
        self.convolution = ConvolutionModule(model_dim, kernel_size, dropout, convolution)
        own = of_languages or shared or FeedForward(model_dim, feed_forward_dim, dropout, nn.SiLU())
        self.feed_forward_out: FeedForward | Shared | LanguageFeedForward = own
        self.norm_feed_forward_in = nn.LayerNorm(model_dim)
        self.norm_attention = nn.LayerNorm(model_dim)
        self.norm_convolution = nn.LayerNorm(model_dim)
        self.norm_feed_forward_out = nn.LayerNorm(model_dim)
        self.norm = nn.LayerNorm(model_dim)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, frames: Frames) -> Tensor:
        """x (B,T,D), which are these frames -> (B,T,D)"""
        x = x + 0.5 * self.feed_forward_in(self.norm_feed_forward_in(x))
        x = x + self.dropout(frames.attend(self.attention, self.norm_attention(x)))
        x = x + self.convolution(self.norm_convolution(x), frames)
        x = x + 0.5 * feed(self.feed_forward_out, self.norm_feed_forward_out(x), frames.languages)
        return self.norm(x)
