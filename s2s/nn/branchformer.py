"""The E-Branchformer block."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from s2s.errors import UserError
from s2s.nn.attention.attention import Attention
from s2s.nn.attention.config import AttentionConfig
from s2s.nn.depthwise import DepthwiseConvolution
from s2s.nn.dropout import Dropout
from s2s.nn.feed_forward import FeedForward, Shared
from s2s.nn.frames import Frames
from s2s.nn.linear import Linear


class ConvolutionalGating(nn.Module):
    """An MLP of which one half of `gating_dim` gates the other (cgMLP: Peng et al. 2022, arXiv:2207.02971, eq. 4-8).

    The gate is a depthwise convolution over time; it begins close to one, so the layer begins as a plain MLP.
    """

    def __init__(
        self, model_dim: int, gating_dim: int, kernel_size: int, dropout: float, convolution: str = "symmetric"
    ) -> None:
        super().__init__()
        if gating_dim < 2 or gating_dim % 2:
            raise UserError(f"gating_dim={gating_dim}: expected an even number, as one half gates the other")
        self.expand = Linear(model_dim, gating_dim)
        self.norm = nn.LayerNorm(gating_dim // 2)
        self.depthwise = DepthwiseConvolution(gating_dim // 2, kernel_size, convolution)
        nn.init.normal_(self.depthwise.weight, std=1e-6)
        nn.init.ones_(self.depthwise.bias)  # type: ignore[arg-type]
        self.contract = Linear(gating_dim // 2, model_dim)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, frames: Frames) -> Tensor:
        """x (B,T,D) -> (B,T,D)"""
        kept, gate = F.gelu(self.expand(x)).chunk(2, dim=-1)
        gated = kept * frames.convolve(self.depthwise, self.norm(gate))
        return self.dropout(self.contract(self.dropout(gated)))


class BranchformerBlock(nn.Module):
    """Attention beside convolutional gating, merged by a convolution, between two half feed-forwards.

    E-Branchformer (Kim et al. 2022, arXiv:2210.00077, section 3: merging by depthwise convolution, macaron
    feed-forwards). Where there is a `shared` feed-forward, it takes the place of both. `convolution` is the kind of
    all convolutions.
    """

    def __init__(
        self,
        model_dim: int,
        num_heads: int,
        feed_forward_dim: int,
        gating_dim: int,
        kernel_size: int,
        dropout: float,
        positions: str = "relative",
        attention: AttentionConfig | None = None,
        shared: Shared | None = None,
        convolution: str = "symmetric",
    ) -> None:
        super().__init__()
        self.feed_forward_in = shared or FeedForward(model_dim, feed_forward_dim, dropout, nn.SiLU())
        self.attention = Attention(model_dim, num_heads, dropout, attention, positions)
        self.gating = ConvolutionalGating(model_dim, gating_dim, kernel_size, dropout, convolution)
        self.depthwise = DepthwiseConvolution(2 * model_dim, kernel_size, convolution)
        self.merge = Linear(2 * model_dim, model_dim)
        self.feed_forward_out = shared or FeedForward(model_dim, feed_forward_dim, dropout, nn.SiLU())
        self.norm_feed_forward_in = nn.LayerNorm(model_dim)
        self.norm_attention = nn.LayerNorm(model_dim)
        self.norm_gating = nn.LayerNorm(model_dim)
        self.norm_feed_forward_out = nn.LayerNorm(model_dim)
        self.norm = nn.LayerNorm(model_dim)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, frames: Frames) -> Tensor:
        """x (B,T,D), which are these frames -> (B,T,D)"""
        x = x + 0.5 * self.feed_forward_in(self.norm_feed_forward_in(x))
        attended = self.dropout(frames.attend(self.attention, self.norm_attention(x)))
        branches = torch.cat((attended, self.gating(self.norm_gating(x), frames)), dim=-1)
        x = x + self.dropout(self.merge(branches + frames.convolve(self.depthwise, branches)))
        x = x + 0.5 * self.feed_forward_out(self.norm_feed_forward_out(x))
        return self.norm(x)
