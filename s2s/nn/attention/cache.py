"""What the hypotheses of a search have in their past, for self-attention a token at a time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from s2s.nn.rows import join_rows

RESERVE = 8  # steps between two clearings of a cache of many hypotheses


@dataclass
class HypothesisCache:
    """Self-attention keys and values of K hypotheses an utterance, in P slots that these hypotheses share.

    The keys and values of a token are written once and stay where they are; `ancestors` says whose past they belong to.
    To continue one hypothesis from another is then to copy a row of booleans. All K attend as one product over the
    slots, and slots nobody descends from any more are cleared away whenever the cache is full.
    """

    keys: Tensor  # (B,L,H,P,d)
    values: Tensor  # (B,L,H,P,d)
    ancestors: Tensor  # (B,K,P) bool, False beyond `used`
    positions: Tensor  # (B,K) tokens in the past
    used: int

    @classmethod
    def empty(cls, like: Tensor, beam_size: int, num_layers: int, num_heads: int, head_dim: int) -> HypothesisCache:
        """No token yet, for each of the B rows of `like`, with its device and dtype."""
        size, slots = like.size(0), beam_size * RESERVE
        shape = (size, num_layers, num_heads, slots, head_dim)
        ancestors = torch.zeros(size, beam_size, slots, dtype=torch.bool, device=like.device)
        positions = torch.zeros(size, beam_size, dtype=torch.long, device=like.device)
        return cls(like.new_zeros(shape), like.new_zeros(shape), ancestors, positions, used=0)

    def open(self) -> Tensor:
        """Make room for a token of every hypothesis; what each may attend to (B,1,K,P'), that token too."""
        beam_size = self.positions.size(1)
        self._make_room(beam_size)
        new = torch.eye(beam_size, dtype=torch.bool, device=self.ancestors.device)
        self.ancestors[:, :, self.used - beam_size : self.used] = new
        return self.ancestors[:, None, :, : self.used]

    def open_shared(self, valid: Tensor) -> Tensor:
        """Make room for the tokens (B,P) that all hypotheses of an utterance begin with, those that are `valid`, bool.

        Returns what each of them may attend to (B,1,P,P'). Only for hypotheses that are still empty.
        """
        size = valid.size(1)
        self._make_room(size)
        self.ancestors[:, :, self.used - size : self.used] = valid.unsqueeze(1)
        self.positions += valid.sum(dim=1, keepdim=True)
        causal = torch.ones(size, size, dtype=torch.bool, device=valid.device).tril()
        before = self.ancestors[:, None, :1, : self.used - size].expand(-1, -1, size, -1)
        return torch.cat((before, causal.expand(len(valid), 1, -1, -1)), dim=-1)

    def write(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (B,H,K,d) of the new tokens -> those of all slots (B,H,P',d)."""
        first = self.used - keys.size(2)
        self.keys[:, layer, :, first : self.used] = keys
        self.values[:, layer, :, first : self.used] = values
        return self.keys[:, layer, :, : self.used], self.values[:, layer, :, : self.used]

    def close(self, grown: Tensor) -> None:
        """End a step; only the rows of `grown` (B,K) bool keep their new token."""
        first = self.used - self.positions.size(1)
        self.ancestors[:, :, first : self.used] &= grown.unsqueeze(-1)
        self.positions += grown

    def _make_room(self, size: int) -> None:
        """Count `size` more slots as used."""
        if self.used + size > self.ancestors.size(2):
            self._clear(size)
        self.used += size

    def _clear(self, size: int) -> None:
        """Move the slots that are somebody's past to the front and make room for `size` and more behind them."""
        live = self.ancestors.any(dim=1)  # (B,P)
        kept = int(live.sum(dim=1).max())
        slots = kept + max(size + RESERVE * self.positions.size(1), kept // 2)
        order = live.byte().argsort(dim=1, descending=True, stable=True)[:, :kept]  # (B,P')
        utterances = torch.arange(order.size(0), device=order.device).unsqueeze(1)
        for name in ("keys", "values"):
            old: Tensor = getattr(self, name)
            new = old.new_zeros((*old.shape[:3], slots, old.size(4)))
            new[:, :, :, :kept] = old.permute(0, 3, 1, 2, 4)[utterances, order].permute(0, 2, 3, 1, 4)
            setattr(self, name, new)
        ancestors = self.ancestors.new_zeros((*self.ancestors.shape[:2], slots))
        ancestors[:, :, :kept] = self.ancestors.transpose(1, 2)[utterances, order].transpose(1, 2)
        self.ancestors, self.used = ancestors, kept

    def select(self, parents: Tensor, utterances: Tensor | None = None) -> None:
        """Make row n continue from row `parents[n]`; `utterances` (B') as in `s2s.models.memory.Decoder.select`."""
        beam_size, slots = self.ancestors.shape[1:]
        self.ancestors = self.ancestors.view(-1, slots).index_select(0, parents).view(-1, beam_size, slots)
        self.positions = self.positions.flatten().index_select(0, parents).view(-1, beam_size)
        if utterances is not None:
            self.keys, self.values = self.keys.index_select(0, utterances), self.values.index_select(0, utterances)

    def join(self, other: HypothesisCache) -> None:
        """Put the utterances of `other` behind these."""
        for name in ("keys", "values", "ancestors", "positions"):
            setattr(self, name, join_rows(getattr(self, name), getattr(other, name)))
        self.used = max(self.used, other.used)
