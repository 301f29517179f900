"""Heads of an attention that stop at a frame of a memory, and never go back."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from s2s.nn.attention.config import AttentionConfig
from s2s.nn.attention.monotonic import (
    at_least_float32,
    chunk_lookback,
    expected_alignment,
    hard_stops,
    infinite_lookback,
)
from s2s.nn.attention.multi_head import Cached, MultiHead
from s2s.nn.attention.scores import opened, scored


@dataclass
class Stops:
    """Where the H heads of an attention stop for the tokens of K = `rows` hypotheses an utterance, U of each.

    `before` (B,K,H) are the frames where they stopped last, in a search: then, and after training, heads decide.
    Without it tokens are the first ones. The attention leaves an `alignment` here.
    """

    rows: int = 1
    before: Tensor | None = None
    alignment: Tensor | None = None  # (B,H,K*U,T): expected, or one at the frame where a head stops

    @property
    def frames(self) -> Tensor:
        """(B,K,U,H) where the heads stopped."""
        assert self.alignment is not None
        return self.alignment.argmax(dim=-1).unflatten(2, (self.rows, -1)).permute(0, 2, 3, 1)


class Stop(nn.Module):
    """Decides where heads stop: p_ij = sigmoid(q_i·k_j / √d + r), of its own queries and keys (kind=monotonic).

    A hard head looks at the frame where it stops, a q·k of the attention itself being its energy (Raffel et al. 2017;
    MMA-H: Ma et al. 2020, arXiv:1909.12406); others at a few frames up to there (MoChA), or at all of them (MILk,
    MMA-IL, EMMA). In training that is its expectation. Each head learns its r, from `stop_bias`. A head stops at the
    last frame of a memory at the latest: what was never stopped is read to the end, and weights sum to one.
    """

    def __init__(self, config: AttentionConfig, model_dim: int, heads: MultiHead) -> None:
        super().__init__()
        self.noise, self.head_wait = config.stop_noise, config.head_wait
        self.size = {"none": 1, "chunk": config.lookback_frames, "infinite": None}[config.lookback]
        self.shape = (heads.num_heads, heads.head_dim)
        self.query: nn.Linear | None = None
        self.key: nn.Linear | None = None
        if config.lookback != "none":
            self.query, self.key = (nn.Linear(model_dim, heads.num_heads * heads.head_dim) for _ in range(2))
        self.bias = nn.Parameter(torch.full((heads.num_heads, 1, 1), float(config.stop_bias)))  # r

    def cached(self, x: Tensor) -> Cached:
        """x (B,T,D) -> what is kept of it besides what the heads keep: keys (B,H,T,d)"""
        return () if self.key is None else (self._split(self.key(x)),)

    def cached_shapes(self) -> list[tuple[int, int]]:
        """(H,d) of each tensor that is kept."""
        return [] if self.key is None else [self.shape]

    def energies(self, x: Tensor, query: Tensor, keys: Tensor, kept: Cached, real: Tensor) -> Tensor:
        """e (B,H,U,T) of x (B,U,D): -inf where no frame is `real` (B,1,1,T), inf at the last one, at least float32.

        `kept` is what `cached` gave; a hard head has nothing there, and takes the `query` (B,H,U,d) and `keys`
        (B,H',T,d) of the attention.
        """
        if self.query is not None:
            query, keys = self._split(self.query(x)), kept[0]
        energies = at_least_float32(scored(query, keys) + self.bias)
        last = real & ~F.pad(real[..., 1:], (0, 1))
        return energies.masked_fill(~real, float("-inf")).masked_fill(last, float("inf"))

    def expected(self, energies: Tensor, query: Tensor, keys: Tensor, bias: Tensor | None, stops: Stops) -> Tensor:
        """Expected weights (B,H,K*U,T), at least float32; query, keys and `bias` are the attention's own."""
        if self.training and self.noise:
            energies = energies + self.noise * torch.randn_like(energies)
        alignment = expected_alignment(energies.unflatten(2, (stops.rows, -1))).flatten(2, 3)
        stops.alignment = alignment
        if self.size == 1:
            return alignment
        scores, shown = opened(scored(query, keys), bias)
        scores = at_least_float32(scores)
        if shown is not None:
            scores = scores.masked_fill(~shown, torch.finfo(scores.dtype).min)
        if self.size is None:
            return infinite_lookback(alignment, scores)
        return chunk_lookback(alignment, scores, self.size)

    def shown(self, energies: Tensor, stops: Stops) -> Tensor:
        """Which frames each head looks at (B,H,K*U,T), bool, where it stops as soon as p >= 0.5."""
        before = energies.new_zeros((len(energies), stops.rows, energies.size(1)), dtype=torch.long)
        before = before if stops.before is None else stops.before
        each = (energies >= 0).unflatten(2, (stops.rows, -1)).transpose(1, 2)  # (B,K,H,U,T)
        at = hard_stops(each, before, self.head_wait).transpose(1, 2).flatten(2).unsqueeze(-1)
        frames = torch.arange(energies.size(-1), device=energies.device)
        stops.alignment = (frames == at).to(energies.dtype)
        return frames <= at if self.size is None else (frames <= at) & (frames > at - self.size)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, self.shape).transpose(1, 2)
