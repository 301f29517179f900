"""What a label-synchronous search holds: K hypotheses of each of B utterances, alive and ended."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

from s2s.decoding.hypothesis import Hypothesis
from s2s.nn.rows import join_rows

NEVER = float("-inf")


@dataclass
class Grid:
    """Tensors with utterances first. Slots hold a token and a back-pointer a step; a hypothesis is a path through them.

    S scorers' own sums, unweighted, are the `parts` of a score.
    """

    index: Tensor  # (B,) number of the utterance, in order of arrival
    frames: Tensor  # (B,T) bool, those of the memory that are real
    lengths: Tensor  # (B,) tokens of the hypotheses alive, neither bos nor eos counted
    min_lengths: Tensor  # (B,)
    max_lengths: Tensor  # (B,)
    tokens: Tensor  # (B,K,U) token number u of what was in slot k after it
    parents: Tensor  # (B,K,U) the slot that was continued by it
    last: Tensor  # (B,K) last tokens, bos at first
    scores: Tensor  # (B,K) of the hypotheses alive, -inf where there is none
    parts: Tensor  # (B,K,S)
    coverage: Tensor  # (B,K,T), or (B,K,0) where nobody asks: attention paid to each frame so far
    ended_scores: Tensor  # (B,K) normalised, best first in each group, -inf where there is none
    ended_parts: Tensor  # (B,K,S)
    ended_lengths: Tensor  # (B,K)
    ended_slots: Tensor  # (B,K) slot of the last token
    num_ended: Tensor  # (B,) hypotheses that have ended, those that fell out of the best too
    behind: Tensor  # (B,) consecutive lengths at which ending was no longer worth while
    finished: Tensor  # (B,) bool: nothing alive can enter the n best
    broken: Tensor  # (B,) bool: some score was not a number

    def keep(self, utterances: Tensor) -> None:
        """Let all but `utterances` (B') leave."""
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name).index_select(0, utterances))

    def join(self, other: Grid) -> None:
        """Put the utterances of `other` behind these."""
        for field in fields(self):
            setattr(self, field.name, join_rows(getattr(self, field.name), getattr(other, field.name)))

    def begin(self, tokens: Tensor, lengths: Tensor, scores: Tensor, parts: Tensor) -> None:
        """Let all new hypotheses of an utterance begin with tokens (B,P), lengths (B,), of scores (B,), parts (B,S)."""
        beam_size, size = self.tokens.size(1), tokens.size(1)
        more = max(0, size + 1 - self.tokens.size(2))
        self.tokens, self.parents = F.pad(self.tokens, (0, more)), F.pad(self.parents, (0, more))
        self.tokens[:, :, :size] = tokens.unsqueeze(1)
        self.parents[:, :, :size] = torch.arange(beam_size, device=tokens.device).unsqueeze(1)
        last = tokens.gather(1, (lengths - 1).clamp(min=0).unsqueeze(1))
        self.last = torch.where(lengths.unsqueeze(1) > 0, last, self.last)
        self.lengths = lengths
        self.scores, self.parts = self.scores + scores.unsqueeze(1), self.parts + parts.unsqueeze(1)
        self.broken = scores.isnan()

    def grow(self, slots: Tensor, tokens: Tensor, scores: Tensor, parts: Tensor) -> None:
        """Slot k continues what was in `slots` (B,K) by `tokens` (B,K), with new `scores` (B,K) and `parts` (B,K,S)."""
        column = self.lengths.clamp(max=self.tokens.size(2) - 1)  # finished ones may go on until somebody looks
        column = column[:, None, None].expand(-1, self.tokens.size(1), -1)
        self.tokens.scatter_(2, column, tokens.unsqueeze(-1))
        self.parents.scatter_(2, column, slots.unsqueeze(-1))
        self.last, self.scores, self.parts = tokens, scores, parts
        self.lengths = self.lengths + 1

    def end(self, slots: Tensor, scores: Tensor, parts: Tensor, groups: int) -> None:
        """Let what is in `slots` (B,E) end, where `scores` (B,E) > -inf; the best K/G of each of G groups stay."""
        size = self.ended_scores.size(1) // groups
        lengths = self.lengths.unsqueeze(1).expand_as(slots)
        new = (scores, parts, lengths, slots)
        names = ("ended_scores", "ended_parts", "ended_lengths", "ended_slots")
        both = [
            torch.cat((getattr(self, name).unflatten(1, (groups, -1)), more.unflatten(1, (groups, -1))), dim=2)
            for name, more in zip(names, new, strict=True)
        ]  # each (B,G,K/G+E/G,...)
        best, order = both[0].topk(size, dim=-1)
        self.ended_scores = best.flatten(1)
        self.ended_parts = both[1].gather(2, order.unsqueeze(-1).expand(-1, -1, -1, parts.size(-1))).flatten(1, 2)
        self.ended_lengths = both[2].gather(2, order).flatten(1)
        self.ended_slots = both[3].gather(2, order).flatten(1)

    def hypotheses(self, utterances: Tensor, nbest: int, names: list[str]) -> list[list[Hypothesis]]:
        """The `nbest` best ended ones of `utterances` (B'), best first."""
        scores, order = self.ended_scores[utterances].topk(nbest, dim=-1)  # (B',n)
        rows = utterances.unsqueeze(1)
        slots, lengths = self.ended_slots[rows, order], self.ended_lengths[rows, order]
        parts = self.ended_parts[rows, order].tolist()
        columns = []
        for column in range(int(lengths.max()) - 1, -1, -1):
            columns.append(self.tokens[rows, slots, column])
            # Until its own last token is reached, a hypothesis stays in the slot of that token.
            slots = torch.where(column < lengths, self.parents[rows, slots, column], slots)
        tokens = torch.stack(columns[::-1], dim=-1).tolist() if columns else [[[] for _ in row] for row in parts]
        return [
            [
                Hypothesis(tokens[b][n][:length], score, dict(zip(names, parts[b][n], strict=True)))
                for n, (score, length) in enumerate(zip(*pair, strict=True))
                if score > NEVER
            ]
            for b, pair in enumerate(zip(scores.tolist(), lengths.tolist(), strict=True))
        ]
