"""Self-attention with relative positions, a block of queries at a time."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from s2s.nn.attention.multi_head import Heads, attend
from s2s.nn.positions import sinusoidal


def shift(scores: Tensor, num_keys: int) -> Tensor:
    """Line up position scores (..., Q, T+Q-1), farthest past first, with keys: entry (a, j) is taken from Q-1-a+j.

    Row a of a matrix of width W starts one column earlier than row a-1: that is the same memory read with width W-1.
    """
    num_queries, width = scores.shape[-2:]
    if num_queries == 1:
        return scores
    flat = scores.flatten(-2)[..., num_queries - 1 : num_queries * width - 1]
    return flat.unflatten(-1, (num_queries, width - 1))[..., :num_keys]


class RelativeSelfAttention(nn.Module):
    """Self-attention with Transformer-XL relative positions (Dai et al. 2019, section 3.3).

    The score of query i and key j is ((q_i + u)·k_j + (q_i + v)·W r_{i-j}) / √d. Position scores are built for at most
    `block_size` queries at a time, so memory grows with T * block_size and not with T * (2T-1).
    """

    def __init__(self, model_dim: int, num_heads: int, dropout: float = 0.0, block_size: int = 512) -> None:
        super().__init__()
        self.heads = Heads(model_dim, num_heads)
        self.position = nn.Linear(model_dim, model_dim, bias=False)
        self.content_bias = nn.Parameter(torch.zeros(num_heads, 1, self.heads.head_dim))  # u
        self.position_bias = nn.Parameter(torch.zeros(num_heads, 1, self.heads.head_dim))  # v
        self.dropout = dropout
        self.block_size = block_size

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """x (B,T,D), valid (B,T) bool -> (B,T,D). Frames that are not valid are never attended to."""
        num_frames = x.size(1)
        query = self.heads.split(self.heads.query(x))  # (B,H,T,d)
        keys, values = self.heads.keys_values(x)
        offsets = torch.arange(num_frames - 1, -num_frames, -1, device=x.device)  # i - j, farthest past first
        encodings = sinusoidal(offsets, x.size(-1)).to(x.dtype)
        positions = self.heads.split(self.position(encodings).unsqueeze(0))  # (1,H,2T-1,d)
        padding = torch.zeros(valid.shape, dtype=x.dtype, device=x.device).masked_fill(~valid, float("-inf"))
        blocks = []
        for start in range(0, num_frames, self.block_size):
            stop = min(start + self.block_size, num_frames)
            block = query[:, :, start:stop]
            near = positions[:, :, num_frames - stop : 2 * num_frames - 1 - start]  # offsets stop-1 .. start-(T-1)
            scores = (block + self.position_bias) @ near.transpose(-2, -1) / math.sqrt(self.heads.head_dim)
            bias = shift(scores, num_frames) + padding[:, None, None, :]  # (B,H,Q,T)
            dropout = self.dropout if self.training else 0.0
            blocks.append(attend(block + self.content_bias, keys, values, bias, dropout)[0])
        return self.heads.join(torch.cat(blocks, dim=2))
