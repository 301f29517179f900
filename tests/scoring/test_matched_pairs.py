from __future__ import annotations

import math
import random

import numpy as np
import pytest
from parallel_toy import sentences, spoilt

from s2s.scoring.matched_pairs import matched_pairs, segment_errors
from s2s.scoring.word_errors import UtteranceErrors, score_words

# The example of NIST's description of the test, in which system 1 has 2, 0, 1, 1 errors and system 2 has 0, 1, 2, 0.
NIST = (
    "it was the best of times it was the worst of times it was",
    "ITS the best of times it IS the worst of times OR it was",
    "it was the best times it WON the TEST of times it was",
)


def pair(reference: str, first: str, second: str) -> list[tuple[UtteranceErrors, UtteranceErrors]]:
    reports = [score_words({"u": reference}, {"u": output}) for output in (first, second)]
    return [(reports[0].utterances[0], reports[1].utterances[0])]


def test_segments_are_those_of_nists_example() -> None:
    assert segment_errors(pair(*NIST)) == [(2, 0), (0, 1), (1, 2), (1, 0)]


def test_segments_lie_between_words_that_both_have_right() -> None:
    reference = "a b c d e f g h"
    assert segment_errors(pair(reference, "X b c d e f g h", "a b X d e f g h")) == [(1, 1)]  # b alone is too little
    assert segment_errors(pair(reference, "X b c d e f g h", "a b c X e f g h")) == [(1, 0), (0, 1)]
    assert segment_errors(pair(reference, "X b c X e f g h", "a b X d e f g h")) == [(2, 1)]
    assert segment_errors(pair(reference, "a b c d e f g h", reference)) == []
    assert segment_errors(pair(reference, "X b c d e f g h", "a b c d e f g X"), buffer=7) == [(1, 1)]
    assert segment_errors(pair(reference, "X b c d e f g h", "a b c d e f g X"), buffer=6) == [(1, 0), (0, 1)]


def test_insertions_belong_to_the_place_where_they_are() -> None:
    reference = "a b c d"
    assert segment_errors(pair(reference, "X Y a b c d", "a b c d Z")) == [(2, 0), (0, 1)]
    assert segment_errors(pair(reference, "a X b c d", "a b Y c d")) == [(1, 1)]  # one word between them


def test_an_utterance_begins_a_segment_of_its_own() -> None:
    wrong = pair("a b", "a X", "X b")
    assert segment_errors(wrong + wrong) == [(1, 1), (1, 1)]
    assert segment_errors(pair("a b c d e f", "X b c d e X", "a b c d e f") + wrong, None) == [(2, 0), (1, 1)]


@pytest.mark.parametrize("buffer", [1, 2, 5, None])
def test_no_error_is_lost(buffer: int | None) -> None:
    texts = dict(enumerate(sentences(40)))
    references = {str(key): text for key, text in texts.items()}
    outputs = [dict(zip(references, spoilt(list(references.values()), 0.3, seed), strict=True)) for seed in (1, 2)]
    reports = [score_words(references, output) for output in outputs]
    segments = segment_errors(zip(reports[0].utterances, reports[1].utterances, strict=True), buffer)
    assert [sum(column) for column in zip(*segments, strict=True)] == [report.counts.errors for report in reports]
    assert min(map(max, segments)) > 0


def unambiguous_texts() -> tuple[dict[str, str], list[dict[str, str]]]:
    """References and two outputs in which every word is there once, so that there is one best alignment."""
    chance = random.Random(4)
    references: dict[str, str] = {}
    outputs: list[dict[str, str]] = [{}, {}]
    for i in range(120):
        words = [f"w{i}x{j}" for j in range(3 + int(12 * chance.random()))]
        references[f"s_{i}"] = " ".join(words)
        for system, output in enumerate(outputs):
            heard = []
            for j, word in enumerate(words):
                kind, other = chance.random(), f"q{system}x{i}x{j}"
                heard += [other] if kind < 0.12 else [] if kind < 0.16 else [word, other] if kind < 0.2 else [word]
            output[f"s_{i}"] = " ".join(heard)
    return references, outputs


def test_segments_and_statistic_are_those_of_nists_program() -> None:
    """What `sc_stats -t mapsswe -v` of SCTK 2.4.10 prints for these texts, aligned by its sclite."""
    references, outputs = unambiguous_texts()
    reports = [score_words(references, output) for output in outputs]
    segments = segment_errors(zip(reports[0].utterances, reports[1].utterances, strict=True))
    result = matched_pairs(segments)
    assert [sum(column) for column in zip(*segments, strict=True)] == [213, 206]
    assert (len(segments), f"{result.mean:.3f}", f"{result.statistic:.3f}") == (203, "-0.034", "-0.383")


def test_the_statistic_is_the_papers() -> None:
    errors = [(2, 0), (0, 1), (1, 2), (1, 0)]
    differences = np.array([-2.0, 1.0, 1.0, -1.0])
    expected = differences.mean() / (differences.std(ddof=1) / math.sqrt(4))
    result = matched_pairs(errors)
    assert (result.segments, result.mean) == (4, -0.25)
    assert result.statistic == pytest.approx(expected, rel=1e-12)
    # W = -1/3: by a table of the normal distribution, 2 (1 - Phi(0.3333)) = 0.7389
    assert result.statistic == pytest.approx(-0.25 / math.sqrt((3.0625 + 2 * 1.5625 + 0.5625) / 3 / 4))
    assert result.p_value == pytest.approx(2 * (1 - normal(abs(expected))), rel=1e-9)


def normal(value: float) -> float:
    """The normal distribution up to `value`, as a sum of many trapezia."""
    points = np.linspace(-12, value, 200_001)
    density = np.exp(-(points**2) / 2) / math.sqrt(2 * math.pi)
    return float(((density[1:] + density[:-1]) / 2 * np.diff(points)).sum())


def test_too_little_is_no_p_value() -> None:
    assert matched_pairs([]).p_value == 1
    assert matched_pairs([(3, 3), (1, 1)]).p_value == 1
    for errors in ([(1, 0)], [(1, 0), (2, 1)]):
        result = matched_pairs(errors)
        assert (result.statistic, result.p_value) == (None, None)


def test_p_values_are_uniform_where_the_systems_are_equally_good() -> None:
    chance = np.random.default_rng(0)
    found = []
    for _ in range(1000):
        errors = chance.poisson(1.0, size=(120, 2))
        found.append(matched_pairs([tuple(row) for row in errors.tolist()]).p_value)
    values = np.sort(np.array(found))
    ranks = np.arange(1, 1001) / 1000
    # Kolmogorov and Smirnov's distance, which uniform values exceed in 1 of 1000 cases
    assert np.abs(values - ranks).max() < 1.95 / math.sqrt(1000)


def test_two_systems_that_differ_are_told_apart() -> None:
    references = {str(key): text for key, text in enumerate(sentences(150))}
    reports = [
        score_words(references, dict(zip(references, spoilt(list(references.values()), rate, 3), strict=True)))
        for rate in (0.1, 0.25)
    ]
    segments = segment_errors(zip(reports[0].utterances, reports[1].utterances, strict=True))
    p_value = matched_pairs(segments).p_value
    assert p_value is not None
    assert p_value < 1e-4
