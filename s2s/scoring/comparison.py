"""Two systems on the same test set: how far apart they are, and whether that may be chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from s2s.scoring.matched_pairs import BUFFER, matched_pairs, segment_errors
from s2s.scoring.resampling import SEED, Paired, approximate_randomisation, bootstrap
from s2s.scoring.text_metrics import TextMetric, score_of, text_statistics
from s2s.scoring.word_errors import ErrorReport

SHUFFLES, SAMPLES = 10000, 1000  # sacrebleu's
LEVEL = 0.05


@dataclass(frozen=True)
class Significance:
    """A test of whether two systems are equally good; the p-value is two-sided, None where there is too little."""

    name: str
    p_value: float | None
    basis: str


@dataclass(frozen=True)
class Comparison:
    """Two systems' scores in percent, and what is known of their difference, second minus first.

    Intervals hold 95 % of the bootstrap's resamplings, `better` is the share of them in which the second system is
    better. `tests` has first the one to go by.
    """

    metric: str
    higher_is_better: bool
    scores: tuple[float, float]
    intervals: tuple[tuple[float, float], tuple[float, float]]
    difference: float
    difference_interval: tuple[float, float]
    better: float
    tests: tuple[Significance, ...]
    segments: int
    signature: str


def compare_texts(
    metric: TextMetric,
    references: Sequence[Sequence[str]],
    outputs: tuple[Sequence[str], Sequence[str]],
    shuffles: int = SHUFFLES,
    samples: int = SAMPLES,
    seed: int = SEED,
) -> Comparison:
    """Compare two outputs of the same N segments by approximate randomisation, and by paired bootstrap resampling."""
    build = metric.build()
    first, second = (text_statistics(build, references, texts) for texts in outputs)
    paired = Paired(first, second, lambda total: float(score_of(build, total).score))
    signature = build.get_signature()
    for key, value in (("seed", seed), ("ar", shuffles), ("bs", samples)):
        signature.update(key, value)
    test = Significance(
        "approximate randomisation", approximate_randomisation(paired, shuffles, seed), f"{shuffles} random swaps"
    )
    name = score_of(build, first.sum(0)).name
    return _comparison(name, metric.higher_is_better, paired, test, samples, seed, signature.format())


def compare_errors(first: ErrorReport, second: ErrorReport, samples: int = SAMPLES, seed: int = SEED) -> Comparison:
    """Compare two recognisers by matched pairs, and by bootstrap of the error rate.

    Words are compared in segments between words that both have right, characters in whole utterances: the characters
    of one word go wrong together. Both reports must be of the same references.
    """
    pairs = list(zip(first.utterances, second.utterances, strict=True))
    buffer = BUFFER if first.unit == "word" else None
    result = matched_pairs(segment_errors(pairs, buffer))
    statistics = [
        np.array([(each.counts.errors, each.counts.references) for each in report.utterances], dtype=np.float64)
        for report in (first, second)
    ]
    paired = Paired(statistics[0], statistics[1], _percent)
    units = "segments" if buffer else "utterances"
    test = Significance(f"matched pairs of {units}", result.p_value, f"{result.segments} {units} with errors")
    signature = f"{first.signature}|seed:{seed}|bs:{samples}"
    return _comparison("WER" if buffer else "CER", False, paired, test, samples, seed, signature)


def comparison_table(comparison: Comparison, names: tuple[str, str]) -> str:
    """Scores, difference, intervals and p-values in lines, and what they say in a sentence."""
    better = f"better in {comparison.better:.1%} of resamplings"
    scores = [
        ("", comparison.metric, "95 % interval", ""),
        (f"A  {names[0]}", f"{comparison.scores[0]:.2f}", _range(comparison.intervals[0]), ""),
        (f"B  {names[1]}", f"{comparison.scores[1]:.2f}", _range(comparison.intervals[1]), better),
        ("B - A", f"{comparison.difference:+.2f}", _range(comparison.difference_interval, "+"), ""),
    ]
    tests = [("test", "p-value", "on"), *((test.name, _p(test.p_value), test.basis) for test in comparison.tests)]
    lines = [*_columns(scores), "", *_columns(tests), "", conclusion(comparison)]
    return "\n".join([*lines, f"signature: {comparison.signature}"])


def conclusion(comparison: Comparison, names: tuple[str, str] = ("A", "B")) -> str:
    """What the test to go by says, in a sentence."""
    test = comparison.tests[0]
    if test.p_value is None:
        return f"There are too few differing segments to say whether {names[0]} and {names[1]} differ."
    if comparison.difference == 0 and test.p_value == 1:
        return f"{names[0]} and {names[1]} are equally good on this test set."
    winner, loser = names[::-1] if (comparison.difference > 0) == comparison.higher_is_better else names
    size = f"{abs(comparison.difference):.2f} points of {comparison.metric}"
    if test.p_value < LEVEL:
        return f"{winner} is better than {loser} by {size}, more than is likely by chance (p = {_p(test.p_value)})."
    return f"{winner} is ahead of {loser} by {size}, but that may well be chance (p = {_p(test.p_value)})."


def comparison_json(comparison: Comparison, names: tuple[str, str]) -> dict[str, Any]:
    """All that the table says, as numbers."""
    return {
        "metric": comparison.metric,
        "higher_is_better": comparison.higher_is_better,
        "signature": comparison.signature,
        "segments": comparison.segments,
        "systems": [
            {"name": name, "score": score, "interval": list(ends)}
            for name, score, ends in zip(names, comparison.scores, comparison.intervals, strict=True)
        ],
        "difference": comparison.difference,
        "difference_interval": list(comparison.difference_interval),
        "second_better": comparison.better,
        "tests": [{"name": test.name, "p_value": test.p_value, "on": test.basis} for test in comparison.tests],
        "conclusion": conclusion(comparison),
    }


def _comparison(
    metric: str, higher_is_better: bool, paired: Paired, test: Significance, samples: int, seed: int, signature: str
) -> Comparison:
    resampled = bootstrap(paired, samples, seed)
    return Comparison(
        metric,
        higher_is_better,
        paired.scores,
        (resampled.first, resampled.second),
        paired.difference,
        resampled.difference,
        resampled.better if higher_is_better else 1 - resampled.better,
        (test, Significance("paired bootstrap", resampled.p_value, f"{samples} resamplings")),
        len(paired.first),
        signature,
    )


def _columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Cells in columns, the second one flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(f"{cell:{'>' if place == 1 else '<'}{widths[place]}}" for place, cell in enumerate(row)).rstrip()
        for row in rows
    ]


def _percent(total: np.ndarray) -> float:
    """Errors in 100 tokens; a sample without reference tokens counts as one."""
    return float(100 * total[0] / max(1.0, total[1]))


def _range(ends: tuple[float, float], sign: str = "") -> str:
    return f"{ends[0]:{sign}.2f} to {ends[1]:{sign}.2f}"


def _p(p_value: float | None) -> str:
    return "-" if p_value is None else f"{p_value:.4f}" if p_value >= 0.0001 else f"{p_value:.1e}"
