"""Label-synchronous beam search on a (B,K) grid, for any weighted scorers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from s2s.decoding.hypothesis import Hypothesis
from s2s.decoding.scorers import CandidateScorer, Scorer
from s2s.errors import UserError
from s2s.models.memory import Memory

NEVER = float("-inf")


@dataclass
class _Grid:
    """K hypotheses of each of B utterances; `parts` keeps the S scorers' own sums, unweighted."""

    tokens: Tensor  # (B,K,U) int64, bos first
    scores: Tensor  # (B,K), -inf where there is no hypothesis
    parts: Tensor  # (B,K,S)
    lengths: Tensor  # (B,K) tokens, neither bos nor eos counted


class BeamSearch:
    """Keeps the `beam_size` best prefixes of every utterance, one more token at each step, until none can be improved.

    A hypothesis' score is the weighted sum of its scorers over all its tokens and eos. A prefix ends when its eos is among
    the `beam_size` best extensions; an utterance is finished when no prefix alive can still enter its n best. With
    `beam_size` 1 this is greedy search. `max_length_ratio` bounds the tokens by a share of the memory's frames: a prefix
    of that length can only end. Scorers that see candidates only are given the `num_candidates` best of the others' sum
    (default: 1.5 times the beam) and eos.
    """

    def __init__(
        self,
        scorers: Mapping[str, tuple[Scorer | CandidateScorer, float]],
        vocab_size: int,
        bos_id: int,
        eos_id: int,
        forbidden_ids: tuple[int, ...] = (),
        beam_size: int = 10,
        nbest: int = 1,
        max_length_ratio: float = 1.0,
        num_candidates: int | None = None,
    ) -> None:
        if beam_size < 1 or beam_size > vocab_size:
            raise UserError(f"beam_size={beam_size}: expected 1 to {vocab_size}, the size of the vocabulary")
        if not 1 <= nbest <= beam_size:
            raise UserError(f"nbest={nbest}: expected 1 to beam_size={beam_size}")
        if max_length_ratio <= 0:
            raise UserError(f"max_length_ratio={max_length_ratio}: expected a number above 0, such as 1.0")
        used = {name: (scorer, weight) for name, (scorer, weight) in scorers.items() if weight != 0.0}
        self.candidate_scorers = {n: s for n, s in used.items() if isinstance(s[0], CandidateScorer)}
        self.scorers = {n: s for n, s in used.items() if n not in self.candidate_scorers}
        if not self.scorers and not self.candidate_scorers:
            raise UserError("a search needs at least one scorer whose weight is not 0")
        self.names = [*self.scorers, *self.candidate_scorers]
        self.weights = [w for _, w in self.scorers.values()] + [w for _, w in self.candidate_scorers.values()]
        self.max_gain = sum(max(0.0, weight * scorer.max_gain) for scorer, weight in used.values())
        self.vocab_size, self.bos_id, self.eos_id = vocab_size, bos_id, eos_id
        self.forbidden_ids = forbidden_ids
        self.beam_size, self.nbest = beam_size, nbest
        self.max_length_ratio = max_length_ratio
        self.num_candidates = min(num_candidates or beam_size + (beam_size + 1) // 2, vocab_size)

    @torch.inference_mode()
    def __call__(self, memory: Memory) -> list[list[Hypothesis]]:
        """The `nbest` best hypotheses of each utterance, best first."""
        limits = (memory.lengths * self.max_length_ratio).long().clamp(min=1)  # (B,)
        max_length = int(limits.max())
        states: dict[str, Any] = {
            name: scorer.start(memory, self.beam_size, max_length + 1)
            for name, (scorer, _) in {**self.scorers, **self.candidate_scorers}.items()
        }
        alive, ended = self._start(memory, max_length), self._start(memory, max_length)
        ended.scores.fill_(NEVER)
        for length in range(max_length + 1):
            candidates, parts = self._extend(alive, states, length)  # (B,K,C), (B,K,C,S)
            at_limit = (limits <= length)[:, None, None] & (candidates != self.eos_id)
            total = alive.scores.unsqueeze(-1) + parts @ parts.new_tensor(self.weights)
            total = torch.where(at_limit | total.isnan(), NEVER, total)
            parents, choices = self._advance(alive, ended, candidates, total, parts, length)
            best_alive = alive.scores[:, 0] + self.max_gain * (limits - length - 1)
            if bool((ended.scores[:, self.nbest - 1] >= best_alive).all()) or length == max_length:
                break
            for name, (scorer, _) in self.scorers.items():
                states[name] = scorer.select(states[name], parents)  # type: ignore[union-attr]
            for name, (scorer, _) in self.candidate_scorers.items():
                states[name] = scorer.select_candidates(states[name], parents, choices)  # type: ignore[union-attr]
        return self._hypotheses(ended)

    def _start(self, memory: Memory, max_length: int) -> _Grid:
        """One empty prefix an utterance."""
        grid = (memory.states.size(0), self.beam_size)
        device = memory.states.device
        scores = torch.full(grid, NEVER, device=device, dtype=memory.states.dtype)
        scores[:, 0] = 0.0
        return _Grid(
            tokens=torch.full((*grid, max_length + 1), self.bos_id, device=device),
            scores=scores,
            parts=scores.new_zeros((*grid, len(self.names))),
            lengths=torch.zeros(grid, dtype=torch.long, device=device),
        )

    def _extend(self, alive: _Grid, states: dict[str, Any], length: int) -> tuple[Tensor, Tensor]:
        """Candidate next tokens (B,K,C) of every prefix and what each scorer adds for them (B,K,C,S)."""
        grid = alive.scores.shape
        last = alive.tokens[:, :, length].flatten()  # (N,)
        full = [scorer.score(last, states[name]) for name, (scorer, _) in self.scorers.items()]  # type: ignore[union-attr]
        summed = last.new_zeros((last.size(0), self.vocab_size), dtype=alive.scores.dtype)
        for scores, weight in zip(full, self.weights, strict=False):
            summed = summed + weight * scores
        summed[:, self.forbidden_ids] = NEVER
        num_candidates = self.vocab_size
        if self.scorers:
            # 2K of all are enough: no prefix has more than one eos, so K of them go on.
            num_candidates = min(self.num_candidates if self.candidate_scorers else 2 * self.beam_size, self.vocab_size)
        summed[:, self.eos_id] = float("inf")  # eos is always a candidate
        candidates = summed.topk(num_candidates, dim=-1).indices  # (N,C)
        parts = [scores.gather(1, candidates) for scores in full]
        for name, (scorer, _) in self.candidate_scorers.items():
            parts.append(scorer.score_candidates(candidates, states[name]))  # type: ignore[union-attr]
        stacked = torch.stack([part.to(alive.scores.dtype) for part in parts], dim=-1)
        for token in self.forbidden_ids:
            stacked[candidates == token] = NEVER
        return candidates.view(*grid, -1), stacked.view(*grid, num_candidates, -1)

    def _advance(
        self, alive: _Grid, ended: _Grid, candidates: Tensor, total: Tensor, parts: Tensor, length: int
    ) -> tuple[Tensor, Tensor]:
        """Let the best of `total` (B,K,C) with eos join `ended` and K others be `alive`, each an extension of its parent.

        Returns the parents' rows (N,) and which of their candidates they took (N,).
        """
        num_utterances, beam_size, num_candidates = total.shape
        scores, flat = total.flatten(1).topk(min(2 * beam_size, beam_size * num_candidates), dim=-1)  # (B,2K)
        parents, choices = flat // num_candidates, flat % num_candidates
        tokens = candidates.flatten(1).gather(1, flat)
        sums = _pick(alive.parts, parents) + _pick(parts.flatten(1, 2), flat)
        ends = tokens == self.eos_id

        ending = scores.masked_fill(~ends, NEVER)
        ending[:, beam_size:] = NEVER
        ended.scores, order = torch.cat((ended.scores, ending), dim=1).topk(beam_size, dim=-1)
        ended.tokens = _pick(torch.cat((ended.tokens, _pick(alive.tokens, parents)), dim=1), order)
        ended.parts = _pick(torch.cat((ended.parts, sums), dim=1), order)
        lengths = torch.full_like(flat, length)
        ended.lengths = torch.cat((ended.lengths, lengths), dim=1).gather(1, order)

        alive.scores, order = scores.masked_fill(ends, NEVER).topk(beam_size, dim=-1)
        parents, choices = parents.gather(1, order), choices.gather(1, order)
        alive.tokens = _pick(alive.tokens, parents)
        if length + 1 < alive.tokens.size(2):
            alive.tokens[:, :, length + 1] = tokens.gather(1, order)
        alive.parts = _pick(sums, order)
        first_row = torch.arange(num_utterances, device=flat.device).unsqueeze(1) * beam_size
        return (first_row + parents).flatten(), choices.flatten()

    def _hypotheses(self, ended: _Grid) -> list[list[Hypothesis]]:
        tokens, scores, parts, lengths = (
            x[:, : self.nbest].tolist() for x in (ended.tokens, ended.scores, ended.parts, ended.lengths)
        )
        for b, best in enumerate(scores):
            if best[0] == NEVER:
                raise UserError(
                    f"utterance {b + 1} of the batch has no hypothesis with a finite score: the model's output is not a "
                    "number; check its weights and the audio"
                )
        return [
            [
                Hypothesis(tokens[b][k][1 : lengths[b][k] + 1], score, dict(zip(self.names, parts[b][k], strict=True)))
                for k, score in enumerate(scores[b])
                if score > NEVER
            ]
            for b in range(len(scores))
        ]


def _pick(x: Tensor, index: Tensor) -> Tensor:
    """x (B,K,...), index (B,J) -> (B,J,...)"""
    return x[torch.arange(x.size(0), device=x.device).unsqueeze(1), index]
