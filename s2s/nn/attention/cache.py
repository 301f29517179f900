"""What the hypotheses of a search have in their past, for self-attention a token at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from s2s.nn.attention.multi_head import Cached
from s2s.nn.rows import join_rows

RESERVE = 8  # steps between two clearings of a cache of many hypotheses


@dataclass
class HypothesisCache:
    """What self-attention keeps of the tokens of K hypotheses an utterance, in P slots that these hypotheses share.

    What is kept of a token is written once and stays where it is; `ancestors` says whose past it belongs to. To
    continue one hypothesis from another is then to copy a row of booleans. All K attend as one product over the slots,
    and slots nobody descends from any more are cleared away whenever the cache is full. Where `stride` tokens share an
    entry, which the last of them holds in full, so are those of the tokens before it.

    Where heads of a cross-attention stop in a memory, `stopped` says how far they are.
    """

    layers: list[list[Tensor]]  # (B,H',P,d') of each layer: keys and values, or what they are made of
    ancestors: Tensor  # (B,K,P) bool, False beyond `used`
    positions: Tensor  # (B,K) tokens in the past
    slot_positions: Tensor  # (B,P) how many tokens come before that of a slot
    used: int
    new_positions: Tensor  # (B,U) those of the tokens that enter in this step
    stopped: Tensor  # (B,K,H) the frames where such heads of all layers stopped last
    stride: int = 1

    @classmethod
    def empty(
        cls,
        size: int,
        beam_size: int,
        shapes: Sequence[Sequence[tuple[int, int]]],
        like: Tensor,
        stride: int = 1,
        stopping_heads: int = 0,
    ) -> HypothesisCache:
        """No token yet for B=`size` utterances; `shapes` (H',d') of each layer's tensors, of the dtype of `like`."""
        slots = beam_size * RESERVE
        zeros = torch.zeros(size, slots, dtype=torch.long, device=like.device)
        positions = zeros.new_zeros(size, beam_size)
        return cls(
            [[like.new_zeros(size, heads, slots, dim) for heads, dim in layer] for layer in shapes],
            torch.zeros(size, beam_size, slots, dtype=torch.bool, device=like.device),
            positions,
            zeros,
            used=0,
            new_positions=positions,
            stopped=zeros.new_zeros(size, beam_size, stopping_heads),
            stride=stride,
        )

    def open(self) -> Tensor:
        """Make room for a token of every hypothesis; what each may attend to (B,1,K,P'), that token too."""
        beam_size = self.positions.size(1)
        self._make_room(self.positions)
        new = torch.eye(beam_size, dtype=torch.bool, device=self.ancestors.device)
        self.ancestors[:, :, self.used - beam_size : self.used] = new
        return self.ancestors[:, None, :, : self.used]

    def open_shared(self, valid: Tensor) -> Tensor:
        """Make room for the tokens (B,P) that all hypotheses of an utterance begin with, those that are `valid`, bool.

        Returns what each of them may attend to (B,1,P,P'). Only while the hypotheses of an utterance are alike.
        """
        size = valid.size(1)
        self._make_room(self.positions[:, :1] + torch.arange(size, device=valid.device))
        self.ancestors[:, :, self.used - size : self.used] = valid.unsqueeze(1)
        self.positions = self.positions + valid.sum(dim=1, keepdim=True)
        causal = torch.ones(size, size, dtype=torch.bool, device=valid.device).tril()
        before = self.ancestors[:, None, :1, : self.used - size].expand(-1, -1, size, -1)
        return torch.cat((before, causal.expand(len(valid), 1, -1, -1)), dim=-1)

    def write(self, layer: int, new: Cached) -> Cached:
        """What is kept of the new tokens, (B,H',U,d') each -> of all slots, (B,H',P',d') each."""
        for kept, own in zip(self.layers[layer], new, strict=True):
            kept[:, :, self.used - own.size(2) : self.used] = own
        return tuple(kept[:, :, : self.used] for kept in self.layers[layer])

    @property
    def used_slot_positions(self) -> Tensor:
        """(B,P') of the slots in use."""
        return self.slot_positions[:, : self.used]

    def close(self, grown: Tensor) -> None:
        """End a step; only the rows of `grown` (B,K) bool keep their new token."""
        first = self.used - self.positions.size(1)
        self.ancestors[:, :, first : self.used] &= grown.unsqueeze(-1)
        self.positions = self.positions + grown

    def stop(self, frames: Tensor, counts: Tensor) -> None:
        """Heads stopped at `frames` (B,K,U,H) for new tokens, of which the first `counts` (B,K) of each row stay.

        K = 1 where the hypotheses of an utterance are alike.
        """
        last = (counts - 1).clamp(min=0)[..., None, None].expand(-1, -1, 1, frames.size(3))
        self.stopped = torch.where(counts.unsqueeze(-1) > 0, frames.gather(2, last).squeeze(2), self.stopped)

    def _make_room(self, positions: Tensor) -> None:
        """Take slots into use for tokens at `positions` (B,U)."""
        size = positions.size(1)
        if self.used + size > self.ancestors.size(2):
            self._clear(size)
        self.used += size
        self.slot_positions[:, self.used - size : self.used] = positions
        self.new_positions = positions

    def _clear(self, size: int) -> None:
        """Move the slots that are somebody's past to the front and make room for `size` and more behind them."""
        live = self._needed().any(dim=1)  # (B,P)
        kept = int(live.sum(dim=1).max())
        slots = kept + max(size + RESERVE * self.positions.size(1), kept // 2)
        order = live.byte().argsort(dim=1, descending=True, stable=True)[:, :kept]  # (B,P')
        utterances = torch.arange(order.size(0), device=order.device).unsqueeze(1)
        for layer in self.layers:
            for i, old in enumerate(layer):
                layer[i] = old.new_zeros(*old.shape[:2], slots, old.size(3))
                layer[i][:, :, :kept] = old.transpose(1, 2)[utterances, order].transpose(1, 2)
        ancestors = self.ancestors.new_zeros((*self.ancestors.shape[:2], slots))
        ancestors[:, :, :kept] = self.ancestors.transpose(1, 2)[utterances, order].transpose(1, 2)
        slot_positions = self.slot_positions.new_zeros(len(ancestors), slots)
        slot_positions[:, :kept] = self.slot_positions[utterances, order]
        self.ancestors, self.slot_positions, self.used = ancestors, slot_positions, kept

    def _needed(self) -> Tensor:
        """What tokens to come may look at (B,K,P): entries that are full, and the last one of a row, which may grow."""
        full = (self.slot_positions + 1) % self.stride == 0  # (B,P)
        last = self.slot_positions.unsqueeze(1) == self.positions.unsqueeze(2) - 1
        return self.ancestors & (full.unsqueeze(1) | last)

    def select(self, parents: Tensor, utterances: Tensor | None = None) -> None:
        """Make row n continue from row `parents[n]`; `utterances` (B') as in `s2s.models.memory.Decoder.select`."""
        beam_size, slots = self.ancestors.shape[1:]
        self.ancestors = self.ancestors.view(-1, slots).index_select(0, parents).view(-1, beam_size, slots)
        self.positions = self.positions.flatten().index_select(0, parents).view(-1, beam_size)
        self.stopped = self.stopped.flatten(0, 1).index_select(0, parents).unflatten(0, (-1, beam_size))
        if utterances is not None:
            self.slot_positions = self.slot_positions.index_select(0, utterances)
            self.layers = [[kept.index_select(0, utterances) for kept in layer] for layer in self.layers]

    def join(self, other: HypothesisCache) -> None:
        """Put the utterances of `other` behind these."""
        for name in ("ancestors", "positions", "slot_positions", "stopped"):
            setattr(self, name, join_rows(getattr(self, name), getattr(other, name)))
        both = zip(self.layers, other.layers, strict=True)
        self.layers = [[join_rows(a, b) for a, b in zip(own, more, strict=True)] for own, more in both]
        self.used = max(self.used, other.used)
