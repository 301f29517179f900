"""What a segmental search knows of utterances whose frames come by and by."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

NEVER = float("-inf")
NO_NODE = -1
PARENT, TOKEN, END, DEPTH, HASH = range(5)  # the columns of a node


class Open(NamedTuple):
    """n hypotheses of each of B utterances; each is in a segment whose label is not known."""

    scores: Tensor  # (B,n) of the frames so far, -inf where there is none
    hashes: Tensor  # (B,n) of the labels
    starts: Tensor  # (B,n) first frame of the segment
    nodes: Tensor  # (B,n) of the last label in the history
    depths: Tensor  # (B,n) labels
    hidden: Tensor  # (B,n,L,D) what the label network keeps of them; the last layer's are the label states
    cells: Tensor  # (B,n,L,D)
    ends: Tensor  # (B,n,D) what the length model makes of the label states

    def each(self, change: Callable[..., Tensor], *others: Open) -> Open:
        """`change` of every tensor, beside its like in the others."""
        return Open(*(change(*tensors) for tensors in zip(self, *others, strict=True)))

    def take(self, index: Tensor) -> Open:
        """Those at `index` (B,m) of the n."""
        return self.each(lambda x: x.gather(1, _like(index, x).expand(*index.shape, *x.shape[2:])))

    def put(self, index: Tensor, new: Open, where: Tensor) -> Open:
        """These with `new` ones (B,m) at `index` (B,m), in the utterances `where` (B,) bool."""

        def change(x: Tensor, y: Tensor) -> Tensor:
            at = _like(index, x).expand_as(y)
            return x.scatter(1, at, torch.where(_like(where, y), y, x.gather(1, at)))

        return self.each(change, new)

    def beside(self, other: Open) -> Open:
        """All of both."""
        return self.each(lambda x, y: torch.cat((x, y), dim=1), other)


def _like(x: Tensor, y: Tensor) -> Tensor:
    """x with as many dimensions as y, those it lacks at the end."""
    return x.view(*x.shape, *[1] * (y.dim() - x.dim()))


@dataclass
class SegmentalBeam:
    """The hypotheses of B utterances, and the frames that are still to be looked at.

    The first K of the hypotheses share one beam; of those behind them, K by K share one that ended their last segments
    at the same frame. Labels are nodes in a history of an utterance: (F,K,5) for F frames at which segments ended.
    """

    open: Open  # (B,P)
    turns: Tensor  # (B,) F
    decided: Tensor  # (B,) frames that the hypotheses account for
    context: Tensor  # (B,C,D) the frames before the next one, zeros where there are none
    pending: list[Tensor]  # of each utterance, (n,D) the frames from the next one on
    history: list[Tensor]

    def rows(self, utterances: Sequence[int]) -> SegmentalBeam:
        """Of those utterances alone, in that order; this one stays as it is."""
        index = self.turns.new_tensor(utterances)
        return SegmentalBeam(
            self.open.each(lambda x: x[index]),
            self.turns[index],
            self.decided[index],
            self.context[index],
            [self.pending[b] for b in utterances],
            [self.history[b] for b in utterances],
        )

    @classmethod
    def joined(cls, beams: Sequence[SegmentalBeam]) -> SegmentalBeam:
        """The utterances of several, one after the other; these stay as they are."""
        return cls(
            beams[0].open.each(lambda *x: torch.cat(x), *(beam.open for beam in beams[1:])),
            torch.cat([beam.turns for beam in beams]),
            torch.cat([beam.decided for beam in beams]),
            torch.cat([beam.context for beam in beams]),
            [frames for beam in beams for frames in beam.pending],
            [nodes for beam in beams for nodes in beam.history],
        )


def recombined(scores: Tensor, keys: Tensor, total: bool) -> Tensor:
    """Scores (B,n), keys (B,n) -> those of the best of each key, -inf for the others.

    Where `total`, the best has the sum of all (log of the sum of the exponentials).
    """
    order = scores.argsort(dim=1, descending=True, stable=True)
    order = order.gather(1, keys.gather(1, order).argsort(dim=1, stable=True))  # by key, within it the best first
    ranked, ordered = scores.gather(1, order), keys.gather(1, order)
    first = torch.ones_like(ordered, dtype=torch.bool)
    first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    if total:
        group = first.cumsum(dim=1) - 1
        best = ranked.new_full(ranked.shape, NEVER).scatter_reduce(1, group, ranked, "amax")
        best = best.masked_fill(best == NEVER, 0.0)
        sums = torch.zeros_like(ranked).scatter_add(1, group, (ranked - best.gather(1, group)).exp())
        ranked = (best + sums.log()).gather(1, group)
    return torch.empty_like(scores).scatter(1, order, ranked.masked_fill(~first, NEVER))


def traced(history: Tensor, node: int) -> tuple[list[int], list[tuple[int, int]]]:
    """The labels up to that of a node of an utterance, and the segment of each: its first frame, the one past it."""
    tokens, ends = [], []
    while node != NO_NODE:
        parent, token, end = history[divmod(node, history.size(1))][: END + 1].tolist()
        tokens.append(token)
        ends.append(end)
        node = parent
    ends.reverse()
    return tokens[::-1], list(zip([0, *ends[:-1]], ends, strict=True)) if ends else []


def num_shared_labels(history: Tensor, nodes: Collection[int]) -> int:
    """How many labels all that end with one of these nodes begin with; it takes as long as they differ."""

    def text(node: int) -> tuple[int, int]:
        """What tells labels apart, whatever their segments: how many there are, and their hash."""
        if node == NO_NODE:
            return 0, 0
        depth, hashed = history[divmod(node, history.size(1))][DEPTH : HASH + 1].tolist()
        return depth, hashed

    texts = {text(node): node for node in nodes}
    while len(texts) > 1:
        longest = texts.pop(max(texts))
        parent = int(history[divmod(longest, history.size(1))][PARENT])
        texts[text(parent)] = parent
    return next(iter(texts))[0]
