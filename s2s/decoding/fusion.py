"""What scorers add to the prefixes of a search that goes from frame to frame."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from s2s.decoding.scorers import CandidateScorer, Scorer
from s2s.models.memory import Memory

NEVER = float("-inf")
NO_TOKEN = -1


class Fusion:
    """S scorers at work on K prefixes of each of B utterances; a row's scores hold until its prefix grows."""

    def __init__(
        self,
        scorers: Mapping[str, tuple[Scorer | CandidateScorer, float]],
        memory: Memory,
        beam_size: int,
        bos_id: int,
    ) -> None:
        self.scorers = scorers
        self.shape = (len(scorers), memory.states.size(0), beam_size)  # (S,B,K)
        self.states: dict[str, Any] = {name: scorer.start(memory, beam_size) for name, (scorer, _) in scorers.items()}
        self.by_candidates = {name for name, (scorer, _) in scorers.items() if isinstance(scorer, CandidateScorer)}
        self.tables: dict[str, Tensor] = {}  # latest (N,V) of scorers of the whole vocabulary
        weights = [weight for _, weight in scorers.values()]
        self.weights = memory.states.new_tensor(weights, dtype=torch.float64).view(-1, 1, 1, 1)
        self.sums = self.weights.new_zeros(self.shape)  # of the prefixes, unweighted
        self.tokens = memory.lengths.new_full((self.shape[1] * beam_size,), bos_id)  # to be given to the scorers

    def sums_with(self, candidates: Tensor) -> Tensor:
        """candidates (B,C) -> (S,B,K,1+C): each scorer's sum over a prefix, then over it and each candidate."""
        rows = candidates.repeat_interleave(self.shape[2], dim=0)  # (N,C)
        parts = [self._score(name, rows).view(*self.shape[1:], -1) for name in self.scorers]
        return F.pad(torch.stack(parts).double(), (1, 0)) + self.sums.unsqueeze(-1)

    def weigh(self, sums: Tensor) -> Tensor:
        """(S,B,K,C) -> (B,K,C); what one scorer forbids is forbidden, under a negative weight too."""
        return (sums * self.weights).masked_fill(sums == NEVER, NEVER).sum(dim=0)

    def advance(self, sums: Tensor, chosen: Tensor, parents: Tensor, tokens: Tensor) -> None:
        """Go on with what was `chosen` (B,K) of all `sums` (S,B,K,1+C): `parents` (B,K), longer by `tokens` (B,K)."""
        self.sums = sums.flatten(2).gather(2, chosen.expand(self.shape))
        first_rows = torch.arange(len(parents), device=parents.device).unsqueeze(1) * self.shape[2]
        rows = (first_rows + parents).flatten()
        self.tokens = tokens.flatten()
        for name, (scorer, _) in self.scorers.items():
            self.states[name] = scorer.select(self.states[name], rows)
        self.tables = {name: table.index_select(0, rows) for name, table in self.tables.items()}

    def _score(self, name: str, candidates: Tensor) -> Tensor:
        """candidates (N,C) -> (N,C)"""
        scorer: Any = self.scorers[name][0]
        if name in self.by_candidates:
            return scorer.score_candidates(self.tokens, candidates, self.states[name])
        scores = scorer.score(self.tokens, self.states[name])  # (N,V)
        if name in self.tables:
            scores = torch.where((self.tokens == NO_TOKEN).unsqueeze(1), self.tables[name], scores)
        self.tables[name] = scores
        return scores.gather(1, candidates)

    def rows(self, utterances: Tensor) -> Fusion:
        """Of those utterances (B') alone, in that order; this one stays as it is."""
        beam_size = self.shape[2]
        rows = (utterances.unsqueeze(1) * beam_size + torch.arange(beam_size, device=utterances.device)).flatten()
        part = copy.copy(self)
        part.shape = (self.shape[0], len(utterances), beam_size)
        part.states = {
            name: scorer.select(_copied(self.states[name]), rows, utterances)
            for name, (scorer, _) in self.scorers.items()
        }
        part.tables = {name: table.index_select(0, rows) for name, table in self.tables.items()}
        part.sums, part.tokens = self.sums.index_select(1, utterances), self.tokens.index_select(0, rows)
        return part

    @classmethod
    def joined(cls, parts: Sequence[Fusion]) -> Fusion:
        """The utterances of all parts, one after the other; the parts stay as they are."""
        whole = copy.copy(parts[0])
        whole.shape = (whole.shape[0], sum(part.shape[1] for part in parts), whole.shape[2])
        whole.sums = torch.cat([part.sums for part in parts], dim=1)
        whole.tokens = torch.cat([part.tokens for part in parts])
        whole.states = {name: _copied(state) for name, state in whole.states.items()}
        for name, (scorer, _) in whole.scorers.items():
            for part in parts[1:]:
                whole.states[name] = scorer.join(whole.states[name], part.states[name])
        whole.tables = {}
        for name, table in ((name, table) for part in parts for name, table in part.tables.items()):
            if name not in whole.tables:  # those that have none yet are about to be given bos
                tables = [part.tables.get(name, table.new_zeros(len(part.tokens), table.size(1))) for part in parts]
                whole.tables[name] = torch.cat(tables)
        return whole


def _copied(state: Any) -> Any:
    """A scorer's state of its own; in a list (KenLM's) are things that never change."""
    return list(state) if isinstance(state, list) else copy.deepcopy(state)
