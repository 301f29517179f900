"""Two systems on the same N segments: bootstrap resampling and approximate randomisation.

A score is any function of statistics summed over segments: BLEU's n-gram counts, errors and words. Segments are drawn
as sacrebleu draws them: with the same seed, the samples are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

SEED = 12345  # sacrebleu's
_BLOCK = 1 << 22  # numbers held at once
_ROUNDING = 1e-9  # scores are in percent; as large as the observed difference is as large but for rounding


@dataclass(frozen=True)
class Paired:
    """Statistics (N, K) of two systems, and the score that a sum (K,) of them has."""

    first: np.ndarray
    second: np.ndarray
    score: Callable[[np.ndarray], float]

    @property
    def scores(self) -> tuple[float, float]:
        return self.score(self.first.sum(0)), self.score(self.second.sum(0))

    @property
    def difference(self) -> float:
        """Second minus first."""
        first, second = self.scores
        return second - first


@dataclass(frozen=True)
class Bootstrap:
    """What S resamplings of the segments say; intervals hold 95 of 100 of them.

    `better` is the share of them where the second score is above the first, halves where they are equal. `p_value` is
    two-sided: how often the resampled difference is as far from the observed one as that is from 0.
    """

    first: tuple[float, float]
    second: tuple[float, float]
    difference: tuple[float, float]
    better: float
    p_value: float


def approximate_randomisation(paired: Paired, shuffles: int = 10000, seed: int = SEED) -> float:
    """Two-sided p-value of the difference where the systems' outputs are swapped segment by segment at random.

    How often that makes a difference at least as large as the observed one, the observed one counted in. Riezler and
    Maxwell 2005, "On some pitfalls in automatic evaluation and significance testing for MT", figure 1. sacrebleu counts
    larger differences only, so that a system differs significantly from itself; else its p-values are these.
    """
    flips = np.random.default_rng(seed).integers(2, size=(shuffles, len(paired.first)), dtype=bool)
    as_large = np.abs(shuffled_differences(paired, flips)) >= abs(paired.difference) - _ROUNDING
    return float((as_large.sum() + 1) / (shuffles + 1))


def bootstrap(paired: Paired, samples: int = 1000, seed: int = SEED) -> Bootstrap:
    """Resample the N segments with replacement, the same ones for both systems.

    Koehn 2004, "Statistical significance tests for machine translation evaluation", section 3; for error rates Bisani
    and Ney 2004, "Bootstrap estimates for confidence intervals in ASR performance evaluation". The p-value shifts the
    resampled differences to the mean 0 of equal systems (Efron and Tibshirani 1993, section 16.4).
    """
    rng = np.random.default_rng(seed)
    count = len(paired.first)
    block = max(1, _BLOCK // count)
    picks = (rng.choice(count, size=(min(block, samples - start), count)) for start in range(0, samples, block))
    scores = resampled_scores(paired, (row for rows in picks for row in rows))
    differences = scores[:, 1] - scores[:, 0]
    observed = paired.difference
    as_far = np.abs(differences - observed) >= abs(observed) - _ROUNDING
    return Bootstrap(
        interval(scores[:, 0]),
        interval(scores[:, 1]),
        interval(differences),
        float((differences > _ROUNDING).mean() + (np.abs(differences) <= _ROUNDING).mean() / 2),
        float((as_far.sum() + 1) / (samples + 1)),
    )


def shuffled_differences(paired: Paired, flips: np.ndarray) -> np.ndarray:
    """The difference (S,) where the outputs of the segments marked in each row of `flips` (S, N) are swapped."""
    total = paired.first.sum(0) + paired.second.sum(0)
    block = max(1, _BLOCK // len(paired.first))
    differences = []
    for start in range(0, len(flips), block):
        rows = flips[start : start + block].astype(np.float64)
        first = paired.first.sum(0) + rows @ (paired.second - paired.first)
        differences += [paired.score(total - row) - paired.score(row) for row in first]
    return np.array(differences)


def resampled_scores(paired: Paired, picks: Iterator[np.ndarray]) -> np.ndarray:
    """The scores (S, 2) of both systems on each row (N,) of segment indices."""
    both = np.concatenate([paired.first, paired.second], axis=1)
    size = paired.first.shape[1]
    totals = (both[row].sum(0) for row in picks)
    return np.array([(paired.score(total[:size]), paired.score(total[size:])) for total in totals])


def interval(values: np.ndarray) -> tuple[float, float]:
    """The 95 % in the middle of S values: without the S // 40 lowest and highest, as sacrebleu takes them."""
    ordered = np.sort(values)
    outside = len(ordered) // 40
    return float(ordered[outside]), float(ordered[-outside - 1])
