"""CTC prefix beams as plain as can be: enumeration of every path, and a search over dictionaries."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from toy import BLANK, BOS, EOS

from s2s.decoding.scorers import RowState
from s2s.models.ctc import CTC
from s2s.models.memory import Memory

NEVER = -math.inf
Labels = tuple[int, ...]
Spans = tuple[tuple[int, int], ...]


def random_memory(
    lengths: list[int], seed: int, vocab_size: int = 6, peak: float = 1.0, more: int = 0
) -> tuple[Memory, CTC]:
    """Float64; what is past an utterance's end is not a number."""
    torch.manual_seed(seed)
    ctc = CTC(6, vocab_size).double()
    states = torch.full((len(lengths), max(lengths) + more, 6), float("nan"), dtype=torch.float64)
    for b, length in enumerate(lengths):
        generator = torch.Generator().manual_seed(1000 * seed + b)
        states[b, :length] = 3 * peak * torch.randn(length, 6, generator=generator, dtype=torch.float64)
    return Memory(states, torch.tensor(lengths)), ctc


@dataclass(frozen=True)
class Automaton(RowState):
    """Scores that depend on the whole history: `table` (states, V), the state is a remainder of 3 * state + token."""

    table: Tensor
    max_gain: float = math.inf

    def start(self, memory: Memory, beam_size: int) -> Tensor:
        return torch.zeros(memory.states.size(0) * beam_size, dtype=torch.long)

    def advance(self, tokens: Tensor, state: Tensor) -> None:
        state.copy_(torch.where(tokens == -1, state, (3 * state + tokens) % len(self.table)))

    def of(self, labels: Labels) -> float:
        """The score of a whole hypothesis, one token at a time."""
        state, total = BOS % len(self.table), 0.0
        for token in (*labels, EOS):
            total += self.table[state, token].item()
            state = (3 * state + token) % len(self.table)
        return total


class Full(Automaton):
    def score(self, tokens: Tensor, state: Tensor) -> Tensor:
        self.advance(tokens, state)
        scores = self.table[state]
        scores[tokens == -1] = float("nan")  # means nothing
        return scores


class Candidates(Automaton):
    def score_candidates(self, tokens: Tensor, candidates: Tensor, state: Tensor) -> Tensor:
        self.advance(tokens, state)
        return self.table[state].gather(1, candidates)


def random_scorers(seed: int, vocab_size: int = 6, forbid: bool = False) -> dict[str, tuple[Any, float]]:
    torch.manual_seed(seed)
    tables = [2 * torch.randn(states, vocab_size, dtype=torch.float64) for states in (7, 5, 3)]
    if forbid:
        tables[0][2, 4] = tables[1][4, 5] = tables[2][1, 5] = NEVER  # under a negative weight too
    return {"lm": (Full(tables[0]), 0.7), "bias": (Candidates(tables[1]), 1.3), "internal": (Full(tables[2]), -0.4)}


def true_score(ctc: float, labels: Labels, scorers: dict[str, tuple[Any, float]]) -> float:
    parts = [(scorer.of(labels), weight) for scorer, weight in scorers.values()]
    if any(part == NEVER for part, _ in parts):
        return NEVER
    return ctc + sum(weight * part for part, weight in parts)


def enumerate_labels(log_probs: Tensor, allowed: Labels) -> dict[Labels, float]:
    """log P of every sequence of allowed labels that log_probs (T,V) can give, from every one of their paths."""
    total: dict[Labels, float] = defaultdict(float)
    for path in itertools.product((BLANK, *allowed), repeat=log_probs.size(0)):
        labels = tuple(label for label, _ in itertools.groupby(path) if label != BLANK)
        total[labels] += math.exp(sum(log_probs[t, v].item() for t, v in enumerate(path)))
    return {labels: math.log(p) for labels, p in total.items() if p > 0}


class Path(NamedTuple):
    """One alignment: its log-probability, and the frames of each token."""

    score: float = NEVER
    spans: Spans = ()


class Ends(NamedTuple):
    """log P of all alignments of a prefix that end in a blank, or in a label, and the best one of each."""

    blank: float = NEVER
    label: float = NEVER
    best_blank: Path = Path()
    best_label: Path = Path()

    @property
    def total(self) -> float:
        return _add(self.blank, self.label)

    @property
    def best(self) -> Path:
        return max(self.best_blank, self.best_label)


def plain_beam(
    log_probs: Tensor, beam_size: int, tokens: list[int], scorers: dict[str, tuple[Any, float]]
) -> dict[Labels, Ends]:
    """The prefixes in the beam after all of log_probs (T,V), best first: a dictionary of prefixes, all `tokens` in
    every frame, scorers applied to whole prefixes."""
    beam = {(): Ends(blank=0.0, best_blank=Path(0.0))}
    for t, frame in enumerate(log_probs.tolist()):
        grown: dict[Labels, Ends] = defaultdict(Ends)
        for labels, ends in beam.items():
            old = grown[labels]
            grown[labels] = Ends(
                _add(old.blank, ends.total + frame[BLANK]),
                _add(old.label, ends.label + frame[labels[-1]] if labels else NEVER),
                max(old.best_blank, Path(ends.best.score + frame[BLANK], ends.best.spans)),
                max(old.best_label, _longer(ends.best_label, frame[labels[-1]]) if labels else Path()),
            )
            for token in tokens:
                repeats = labels[-1:] == (token,)
                source, best = (ends.blank, ends.best_blank) if repeats else (ends.total, ends.best)
                old = grown[(*labels, token)]
                path = Path(best.score + frame[token], (*best.spans, (t, t + 1)))
                grown[(*labels, token)] = old._replace(
                    label=_add(old.label, source + frame[token]), best_label=max(old.best_label, path)
                )
        ranked = sorted(grown, key=lambda labels: -grown[labels].total - without_eos(labels, scorers))
        beam = {labels: grown[labels] for labels in ranked[:beam_size]}
    return beam


def plain_search(
    log_probs: Tensor, beam_size: int, tokens: list[int], scorers: dict[str, tuple[Any, float]]
) -> list[tuple[Labels, float]]:
    """The prefixes of `plain_beam`, with eos, best first."""
    beam = plain_beam(log_probs, beam_size, tokens, scorers)
    ended = [(labels, true_score(ends.total, labels, scorers)) for labels, ends in beam.items()]
    return sorted(ended, key=lambda item: -item[1])


def without_eos(labels: Labels, scorers: dict[str, tuple[Any, float]]) -> float:
    """What the scorers give a prefix."""

    def state(scorer: Automaton) -> int:
        state = BOS % len(scorer.table)
        for token in labels:
            state = (3 * state + token) % len(scorer.table)
        return state

    return sum(
        weight * (scorer.of(labels) - scorer.table[state(scorer), EOS].item()) for scorer, weight in scorers.values()
    )


def _add(*terms: float) -> float:
    return torch.tensor(terms, dtype=torch.float64).logsumexp(0).item()


def _longer(path: Path, score: float) -> Path:
    """The path, with one more frame for its last token."""
    if path.score == NEVER:
        return path
    return Path(path.score + score, (*path.spans[:-1], (path.spans[-1][0], path.spans[-1][1] + 1)))
