"""The label-synchronous engine: one more token for every hypothesis of every utterance at each step."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from s2s.decoding.grid import NEVER, Grid
from s2s.decoding.hypothesis import NOT_A_NUMBER, Hypothesis, UtteranceError
from s2s.decoding.limits import Limits
from s2s.decoding.normalisation import Normalisation
from s2s.decoding.phrases import check_tokens
from s2s.decoding.prefix import read_prefix
from s2s.decoding.scorers import CandidateScorer, Scorer
from s2s.decoding.waiting import Waiting
from s2s.errors import UserError
from s2s.models.memory import Memory
from s2s.nn.lengths import valid_mask

WeightedScorers = Mapping[str, tuple[Scorer | CandidateScorer, float]]
END_DETECTIONS = ("exact", "decline", "patience")
DECLINE, DECLINING_LENGTHS = 10.0, 3


@dataclass(frozen=True)
class Choice:
    """What a policy lets live and lets end: extensions, each numbered slot * C + candidate, with their log P."""

    alive: Tensor  # (B,K)
    alive_scores: Tensor  # (B,K), -inf for none
    ended: Tensor  # (B,E), those of one group adjacent
    ended_scores: Tensor  # (B,E), -inf for none


class Policy(Protocol):
    """Which of all extensions to go on with."""

    @property
    def beam_size(self) -> int: ...

    @property
    def groups(self) -> int: ...

    @property
    def num_candidates(self) -> int | None:
        """The best so many tokens of a hypothesis are all it looks at, eos apart; None: all tokens."""
        ...

    def start(self, like: Tensor) -> Tensor:
        """Scores (K,) of the empty hypotheses in the slots: 0, or -inf for a slot that stays empty at first."""
        ...

    def choose(self, total: Tensor, tokens: Tensor, ends: Tensor, vocab_size: int, grid: Grid) -> Choice:
        """log P `total` (B,K,C) of every extension, its token (B,K,C), whether that is eos (B,K,C) -> Choice"""
        ...


class LabelSearch:
    """Extends K hypotheses of each utterance by a token at a time, as a policy chooses, until none can be improved.

    A hypothesis' log P is the weighted sum of its `scorers` over all its tokens and eos; its score is what
    `normalisation` makes of that. `forbidden_ids` are never output. Scorers that see candidates only are given the
    `num_candidates` best of the others' sum (default: 1.5 times the beam) and eos.

    At most `batch_size` utterances are searched at once (default: as many as a memory has): finished ones leave, and as
    soon as a quarter of the places is free waiting ones take them. An utterance is finished when no hypothesis alive
    can still enter its `nbest` best ("exact"). Where scorers reward tokens that is seldom before the greatest length;
    then it is also finished when in three lengths in a row the best hypothesis to end there and the best to go on were
    both more than 10 below the best that has ended ("decline", the default where scorers reward tokens). With
    "patience" it is also finished when `patience` times the beam size hypotheses have ended (Kasai et al. 2022,
    arXiv:2204.05424).
    """

    def __init__(
        self,
        scorers: WeightedScorers,
        policy: Policy,
        vocab_size: int,
        bos_id: int,
        eos_id: int,
        forbidden_ids: tuple[int, ...] = (),
        nbest: int = 1,
        limits: Limits | None = None,
        normalisation: Normalisation | None = None,
        num_candidates: int | None = None,
        end_detection: str | None = None,
        batch_size: int | None = None,
        patience: float = 1.0,
    ) -> None:
        if not 1 <= nbest <= policy.beam_size:
            raise UserError(f"nbest={nbest}: expected 1 to beam_size={policy.beam_size}")
        if end_detection not in (None, *END_DETECTIONS):
            raise UserError(f"end_detection={end_detection}: expected one of {', '.join(END_DETECTIONS)}")
        if batch_size is not None and batch_size < 1:
            raise UserError(f"batch_size={batch_size}: expected at least 1 utterance")
        if patience <= 0:
            raise UserError(f"patience={patience}: expected a number above 0, such as 1.0")
        used = {name: pair for name, pair in scorers.items() if pair[1] != 0.0}
        if not used:
            raise UserError("a search needs at least one scorer whose weight is not 0")
        self.scorers: dict[str, Scorer] = {n: s for n, (s, _) in used.items() if isinstance(s, Scorer)}
        self.candidate_scorers: dict[str, CandidateScorer] = {
            n: s for n, (s, _) in used.items() if isinstance(s, CandidateScorer)
        }
        self.names = [*self.scorers, *self.candidate_scorers]
        self.weights = {name: weight for name, (_, weight) in used.items()}
        self.max_gain = sum(max(0.0, gain) for gain in (_gain(s.max_gain, weight) for s, weight in used.values()))
        self.policy = policy
        self.vocab_size, self.bos_id, self.eos_id = vocab_size, bos_id, eos_id
        self.forbidden_ids = list(forbidden_ids)
        self.nbest, self.batch_size = nbest, batch_size
        self.limits, self.normalisation = limits or Limits(), normalisation or Normalisation()
        self.end_detection = end_detection or ("decline" if self.max_gain else "exact")
        self.enough_ended = max(1, round(patience * policy.beam_size)) if self.end_detection == "patience" else None
        candidates = num_candidates or policy.beam_size + (policy.beam_size + 1) // 2
        self.num_candidates = candidates if self.candidate_scorers else policy.num_candidates
        self.coverage_of = "attention" if self.normalisation.coverage_beta else None
        if self.coverage_of and self.coverage_of not in self.scorers:
            raise UserError("coverage_beta: a coverage penalty needs the attention decoder's scorer; give it a weight")

    def constrained(self, name: str, constraint: Scorer) -> LabelSearch:
        """This search, under one more constraint: a scorer of this name that gives 0 or -inf."""
        other = copy.copy(self)
        other.scorers = {**self.scorers, name: constraint}
        other.names = [*other.scorers, *other.candidate_scorers]
        other.weights = {**self.weights, name: 1.0}
        return other

    def __call__(self, memory: Memory, prefixes: Sequence[Sequence[int]] | None = None) -> list[list[Hypothesis]]:
        """The `nbest` best hypotheses of each utterance, best first; UtteranceError for one that has none.

        They begin with `prefixes`, tokens for each utterance, as if these had been searched for: hypotheses are what a
        `PrefixConstraint` leaves, prefix and all. Scorers that can (`PrefixReader`) read them in one pass.
        """
        found = dict(self.stream([memory], prefixes))
        return [found[b] for b in range(len(memory.lengths))]

    @torch.inference_mode()
    def stream(
        self, memories: Iterable[Memory], prefixes: Sequence[Sequence[int]] | None = None
    ) -> Iterator[tuple[int, list[Hypothesis]]]:
        """The number of each utterance, in order of arrival, and its n best, soon after it is finished."""
        waiting = Waiting(memories)
        grid: Grid | None = None
        states: dict[str, Any] = {}
        steps = 0
        while True:
            grid, states = self._admit(waiting, grid, states, prefixes)
            if grid is None:
                return
            parents = self._step(grid, states)
            steps += 1
            utterances = None
            if steps % steps_between_looks(grid.scores) == 0:
                finished = (grid.finished | grid.broken).tolist()
                # To leave, the others' states are copied: that is worth it for a quarter of them at once.
                if sum(finished) >= max(1, len(finished) // 4):
                    leaving, staying = _numbers(finished, True, grid.index), _numbers(finished, False, grid.index)
                    yield from self._results(grid, leaving)
                    if not len(staying):
                        grid = None
                        continue
                    utterances = staying
                    grid.keep(staying)
                    parents = parents[staying]
            for name, scorer in (*self.scorers.items(), *self.candidate_scorers.items()):
                states[name] = scorer.select(states[name], parents.flatten(), utterances)

    def _admit(
        self,
        waiting: Waiting,
        grid: Grid | None,
        states: dict[str, Any],
        prefixes: Sequence[Sequence[int]] | None,
    ) -> tuple[Grid | None, dict[str, Any]]:
        """Let waiting utterances take the places that are free."""
        taken = 0 if grid is None else len(grid.index)
        if taken and (self.batch_size is None or taken > 0.75 * self.batch_size):
            return grid, states
        for first, memory in waiting.take(None if self.batch_size is None else self.batch_size - taken):
            new = self._start(memory, first)
            scorers = (*self.scorers.items(), *self.candidate_scorers.items())
            started = {name: scorer.start(memory, self.policy.beam_size) for name, scorer in scorers}
            if prefixes is not None:
                self._begin(new, started, prefixes[first : first + len(new.index)])
            if grid is not None:
                started = {name: scorer.join(states[name], started[name]) for name, scorer in scorers}
                grid.join(new)
            grid, states = grid or new, started
        return grid, states

    def _start(self, memory: Memory, first: int) -> Grid:
        """One empty hypothesis an utterance, or as many as the policy wants."""
        lengths, beam_size = memory.lengths, self.policy.beam_size
        grid = (len(lengths), beam_size)
        zero = lengths.new_zeros((), dtype=torch.promote_types(memory.states.dtype, torch.float32))
        min_lengths, max_lengths = self.limits.of(lengths)
        slots = lengths.new_zeros((*grid, int(max_lengths.max()) + 1))
        frames = valid_mask(lengths, memory.states.size(1))
        return Grid(
            index=torch.arange(first, first + len(lengths), device=lengths.device),
            frames=frames,
            lengths=torch.zeros_like(lengths),
            min_lengths=min_lengths,
            max_lengths=max_lengths,
            tokens=slots,
            parents=slots.clone(),
            last=lengths.new_full(grid, self.bos_id),
            scores=self.policy.start(zero).expand(grid),
            parts=zero.new_zeros((*grid, len(self.names))),
            coverage=zero.new_zeros((*grid, frames.size(1) if self.coverage_of else 0)),
            ended_scores=zero.new_full(grid, NEVER),
            ended_parts=zero.new_zeros((*grid, len(self.names))),
            ended_lengths=lengths.new_zeros(grid),
            ended_slots=lengths.new_zeros(grid),
            num_ended=torch.zeros_like(lengths),
            behind=torch.zeros_like(lengths),
            finished=torch.zeros_like(lengths, dtype=torch.bool),
            broken=torch.zeros_like(lengths, dtype=torch.bool),
        )

    def _begin(self, grid: Grid, states: dict[str, Any], prefixes: Sequence[Sequence[int]]) -> None:
        """Let the hypotheses of each utterance begin with its prefix."""
        if len(prefixes) != len(grid.index):
            raise UserError(f"{len(prefixes)} prefixes for {len(grid.index)} utterances: give one for each")
        if self.coverage_of:
            raise UserError("coverage_beta: what a prefix covers is not known; leave it out where there are prefixes")
        for number, prefix in enumerate(prefixes, start=1):
            check_tokens(prefix, self.vocab_size, self.eos_id, f"prefix {number}")
        longest = max(map(len, prefixes))
        if not longest:
            return
        tokens = grid.last.new_tensor([[self.bos_id, *each, *[0] * (longest - len(each))] for each in prefixes])
        lengths = grid.lengths.new_tensor([len(prefix) for prefix in prefixes])
        scorers: dict[str, Scorer | CandidateScorer] = {**self.scorers, **self.candidate_scorers}
        parts = [
            read_prefix(scorer, tokens, lengths, states[name], self.policy.beam_size).to(grid.parts.dtype)
            for name, scorer in scorers.items()
        ]  # each (B,)
        weighted = [_weigh(part, self.weights[name]) for name, part in zip(scorers, parts, strict=True)]
        grid.begin(tokens[:, 1:], lengths, torch.stack(weighted).sum(dim=0), torch.stack(parts, dim=1))

    def _step(self, grid: Grid, states: dict[str, Any]) -> Tensor:
        """One more token; the rows (B,K) that the new hypotheses continue."""
        total, tokens, gains = self._extend(grid, states)
        size, beam_size, num_candidates = total.shape
        choice = self.policy.choose(total, tokens, tokens == self.eos_id, self.vocab_size, grid)
        slots, ended_slots = choice.alive // num_candidates, choice.ended // num_candidates
        coverage, ended_coverage = grid.coverage, None
        if self.coverage_of:
            coverage = coverage + states[self.coverage_of].attention
            ended_coverage = _pick(coverage, ended_slots)
        final = self.normalisation.final(choice.ended_scores, grid.lengths, ended_coverage, grid.frames)
        ended_parts = _pick(grid.parts, ended_slots) + _gather(gains, choice.ended)
        grid.end(ended_slots, final, ended_parts, self.policy.groups)
        grid.num_ended = grid.num_ended + (final > NEVER).sum(dim=1)
        if self.end_detection == "decline":
            self._watch_decline(grid, total, tokens, coverage)
        parts = _pick(grid.parts, slots) + _gather(gains, choice.alive)
        grid.grow(slots, _gather([tokens], choice.alive).squeeze(-1), choice.alive_scores, parts)
        grid.coverage = _pick(coverage, slots)
        self._watch_end(grid)
        first_row = torch.arange(size, device=slots.device).unsqueeze(1) * beam_size
        return first_row + slots

    def _extend(self, grid: Grid, states: dict[str, Any]) -> tuple[Tensor, Tensor, list[Tensor]]:
        """log P (B,K,C) of every extension by one of C tokens (B,K,C), and what each scorer adds (B,K,C), S of them."""
        shape, last = grid.last.shape, grid.last.flatten()
        gains = [scorer.score(last, states[name]) for name, scorer in self.scorers.items()]  # each (N,V)
        total = self._sum(gains, grid.scores)
        tokens = self._candidates(total)
        gains = [gain.gather(1, tokens) for gain in gains]
        total = total.gather(1, tokens)
        broken = total.isnan().view(shape[0], -1).any(dim=-1)  # to topk, what is not a number is the greatest
        for name, candidate_scorer in self.candidate_scorers.items():
            gain = candidate_scorer.score_candidates(last, tokens, states[name]).to(total.dtype)
            broken = broken | gain.isnan().view(shape[0], -1).any(dim=-1)
            total, gains = total + _weigh(gain, self.weights[name]), [*gains, gain]
        total, tokens = total.view(*shape, -1) + grid.scores.unsqueeze(-1), tokens.view(*shape, -1)
        grid.broken |= broken
        ends = tokens == self.eos_id
        at_limit = (grid.lengths >= grid.max_lengths)[:, None, None]
        too_short = (grid.lengths < grid.min_lengths)[:, None, None]
        return total.masked_fill((at_limit & ~ends) | (too_short & ends) | total.isnan(), NEVER), tokens, gains

    def _sum(self, gains: list[Tensor], like: Tensor) -> Tensor:
        """What the scorers give together (N,V), of `gains` (N,V) each; what is forbidden has -inf."""
        weighted = [_weigh(gain, self.weights[name]) for name, gain in zip(self.scorers, gains, strict=True)]
        if not weighted:
            total = like.new_zeros((like.numel(), self.vocab_size))
        elif len(weighted) == 1:  # the vocabulary may be large: it is copied only to be changed
            total = weighted[0].clone() if self.forbidden_ids else weighted[0]
        else:
            total = sum(weighted[1:], start=weighted[0])
        if self.forbidden_ids:
            total[:, self.forbidden_ids] = NEVER
        return total.to(like.dtype)

    def _candidates(self, total: Tensor) -> Tensor:
        """The tokens (N,C) that are looked at: the best of total (N,V), eos always among them."""
        num_tokens = self.vocab_size if self.num_candidates is None else self.num_candidates + 1  # eos too
        if not self.scorers or num_tokens >= self.vocab_size:
            return torch.arange(self.vocab_size, device=total.device).expand(len(total), -1)
        tokens = total.topk(num_tokens, dim=-1).indices
        has_eos = (tokens == self.eos_id).any(dim=-1)
        tokens[:, -1] = torch.where(has_eos, tokens[:, -1], self.eos_id)
        return tokens

    def _watch_end(self, grid: Grid) -> None:
        """Mark the utterances whose hypotheses alive can no longer enter the n best, and let go of these."""
        groups = self.policy.groups
        alive = grid.scores.view(len(grid.index), groups, -1).amax(dim=-1)  # (B,G)
        ended = grid.ended_scores.view(*alive.shape, -1)[..., -(-self.nbest // groups) - 1]
        bound = self.normalisation.bound(alive, grid.lengths.unsqueeze(1), grid.max_lengths.unsqueeze(1), self.max_gain)
        grid.finished = grid.finished | (ended >= bound).all(dim=-1) | (grid.behind >= DECLINING_LENGTHS)
        if self.enough_ended is not None:
            grid.finished = grid.finished | (grid.num_ended >= self.enough_ended)
        grid.scores = grid.scores.masked_fill(grid.finished.unsqueeze(1), NEVER)

    def _watch_decline(self, grid: Grid, total: Tensor, tokens: Tensor, coverage: Tensor) -> None:
        """Count the consecutive lengths at which neither ending nor going on came near the best that has ended."""
        ending = total.masked_fill(tokens != self.eos_id, NEVER).amax(dim=-1)  # (B,K)
        paid = coverage if self.coverage_of else None
        here = self.normalisation.final(ending, grid.lengths, paid, grid.frames).amax(dim=-1)
        alive = self.normalisation.final(grid.scores, grid.lengths, None, grid.frames).amax(dim=-1)
        behind = torch.maximum(here, alive) < grid.ended_scores.amax(dim=-1) - DECLINE
        grid.behind = torch.where(behind, grid.behind + 1, 0)

    def _results(self, grid: Grid, utterances: Tensor) -> Iterator[tuple[int, list[Hypothesis]]]:
        numbers, broken = grid.index[utterances].tolist(), grid.broken[utterances].tolist()
        found = grid.hypotheses(utterances, self.nbest, self.names)
        for number, is_broken, hypotheses in zip(numbers, broken, found, strict=True):
            if is_broken:
                raise UtteranceError(number, NOT_A_NUMBER)
            if not hypotheses:
                raise UtteranceError(
                    number, "no hypothesis within the limits is allowed; check the constraints and the lengths"
                )
            yield number, hypotheses


def steps_between_looks(tensor: Tensor) -> int:
    """How often to see which utterances are finished: on an accelerator to look is to wait for it."""
    return 1 if tensor.is_cpu else 8


def _gain(max_gain: float, weight: float) -> float:
    """The most a token can add once weighted; subtracted log-probabilities have no bound."""
    return weight * max_gain if weight > 0 else float("inf")


def _weigh(gain: Tensor, weight: float) -> Tensor:
    """What a scorer forbids is forbidden under a negative weight too."""
    if weight == 1.0:
        return gain
    return weight * gain if weight > 0 else (weight * gain).masked_fill(gain == NEVER, NEVER)


def _numbers(flags: list[bool], value: bool, like: Tensor) -> Tensor:
    return torch.tensor([i for i, flag in enumerate(flags) if flag == value], device=like.device, dtype=torch.long)


def _pick(x: Tensor, slots: Tensor) -> Tensor:
    """x (B,K,...), slots (B,J) -> (B,J,...)"""
    return x[torch.arange(len(x), device=x.device).unsqueeze(1), slots]


def _gather(columns: list[Tensor], flat: Tensor) -> Tensor:
    """Columns (B*K,C) or (B,K,C) at slot * C + candidate (B,J) -> (B,J,len(columns))"""
    return torch.stack([column.reshape(len(flat), -1).gather(1, flat) for column in columns], dim=-1)
