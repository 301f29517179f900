"""Beam search, in groups that avoid each other where one asks for it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from s2s.decoding.engine import Choice
from s2s.decoding.grid import NEVER, Grid
from s2s.errors import UserError


@dataclass(frozen=True)
class Beam:
    """Go on with the `beam_size` best extensions; with `beam_size` 1 that is greedy search.

    A hypothesis ends when its eos is among the `beam_size` best extensions. With more than one of `groups` the beam is
    shared out, and each group in turn ranks a token lower by `diversity` for every time the groups before it took that
    token in this step (diverse beam search with Hamming diversity, Vijayakumar et al. 2018, eq. 5); scores stay
    as they are.
    """

    beam_size: int = 10
    groups: int = 1
    diversity: float = 0.0

    def __post_init__(self) -> None:
        if self.beam_size < 1:
            raise UserError(f"beam_size={self.beam_size}: expected at least 1")
        if self.groups < 1 or self.beam_size % self.groups:
            raise UserError(f"groups={self.groups}: expected a number that divides beam_size={self.beam_size}")
        if self.diversity < 0:
            raise UserError(f"diversity={self.diversity}: expected 0 or more, such as 0.5")

    @property
    def num_candidates(self) -> int | None:
        return None if self.diversity else 2 * self.beam_size + 1  # eos may be taken from them

    def start(self, like: Tensor) -> Tensor:
        scores = like.new_full((self.groups, self.beam_size // self.groups), NEVER)
        scores[:, 0] = 0.0
        return scores.flatten()

    def choose(self, total: Tensor, tokens: Tensor, ends: Tensor, vocab_size: int, grid: Grid) -> Choice:
        size, num_candidates = self.beam_size // self.groups, total.size(-1)
        flat_tokens = tokens.flatten(1)
        choices = []
        taken = None
        for group in range(self.groups):
            first = group * size
            ranks = total[:, first : first + size]  # (B,K/G,C)
            if taken is not None:
                ranks = ranks - self.diversity * taken.gather(1, tokens[:, first : first + size].flatten(1)).view_as(
                    ranks
                )
            # Twice as many are enough: no hypothesis has more than one eos.
            ranks, flat = ranks.flatten(1).topk(min(2 * size, size * num_candidates), dim=-1)
            flat = flat + first * num_candidates
            scores = total.flatten(1).gather(1, flat) if taken is not None else ranks
            chosen = flat_tokens.gather(1, flat)
            ending = ends.flatten(1).gather(1, flat)
            ended_scores = scores[:, :size].masked_fill(~ending[:, :size], NEVER)
            alive, order = ranks.masked_fill(ending, NEVER).topk(size, dim=-1)
            alive_scores = scores.gather(1, order).masked_fill(alive == NEVER, NEVER)
            choices.append((flat.gather(1, order), alive_scores, flat[:, :size], ended_scores))
            if self.diversity and group + 1 < self.groups:
                taken = total.new_zeros(len(total), vocab_size) if taken is None else taken
                taken = taken.scatter_add(1, chosen.gather(1, order), (alive_scores > NEVER).to(taken.dtype))
        return Choice(*(torch.cat(column, dim=1) for column in zip(*choices, strict=True)))
