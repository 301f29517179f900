"""Cross-attention of which every head sees frames of its own."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from s2s.errors import UserError
from s2s.nn.attention.config import AttentionConfig
from s2s.nn.attention.multi_head import MultiHead


@dataclass(frozen=True)
class Strided:
    """Head h of H sees the frames j with (j - h) mod stride = 0 (Hepos: Huang et al. 2021, arXiv:2104.02112).

    What is kept of T frames is W = ceil(T / stride) for each head. A head may have none that is real, of an utterance
    shorter than the stride: it gives zeros.
    """

    num_heads: int
    stride: int

    def frames(self, x: Tensor) -> Tensor:
        """Keys or values (B,H,T,d) -> those of each head (B,H,W,d), zeros after its last."""
        x = F.pad(x, (0, 0, 0, -x.size(2) % self.stride))
        return torch.stack([x[:, h, h % self.stride :: self.stride] for h in range(self.num_heads)], dim=1)

    def bias(self, bias: Tensor | None, width: int) -> Tensor:
        """A bias (B,1,1,T) over frames, bool or additive, as one over the frames of each head (B,H,1,W').

        `width` W' is that of what was kept, which may be wider than W: utterances of a batch come and go.
        """
        if bias is None:
            raise ValueError("a bias is needed: it tells how many frames there are")
        closed = False if bias.dtype == torch.bool else float("-inf")
        bias = F.pad(bias, (0, width * self.stride - bias.size(-1)), value=closed)
        return torch.stack([bias[:, 0, :, h % self.stride :: self.stride] for h in range(self.num_heads)], dim=1)

    def spread(self, weights: Tensor, num_frames: int) -> Tensor:
        """Weights of each head's frames (B,H,U,W') -> of all T = `num_frames` frames (B,H,U,T), zero for the others."""
        spread = weights.new_zeros(*weights.shape[:3], weights.size(-1) * self.stride)
        for h in range(self.num_heads):
            spread[:, h, :, h % self.stride :: self.stride] = weights[:, h]
        return spread[..., :num_frames]


def build_strided(config: AttentionConfig, heads: MultiHead) -> Strided | None:
    """The strides that a config describes, if any; UserError where heads share keys, or are fewer than the stride."""
    if config.reach != "strided":
        return None
    if config.projection != "multi_head" or heads.kv_heads != heads.num_heads:
        raise UserError(
            "reach=strided: every head keeps frames of its own; expected projection=multi_head without kv_heads"
        )
    if config.stride > heads.num_heads:
        raise UserError(
            f"stride={config.stride}: no head would see some frames; expected at most num_heads={heads.num_heads}"
        )
    return Strided(heads.num_heads, config.stride)
