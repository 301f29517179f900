from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from parallel_toy import sentences, spoilt

from s2s.scoring.comparison import (
    Comparison,
    Significance,
    compare_errors,
    compare_texts,
    comparison_json,
    comparison_table,
    conclusion,
)
from s2s.scoring.matched_pairs import matched_pairs, segment_errors
from s2s.scoring.text_metrics import TextMetric
from s2s.scoring.word_errors import score_words

REFERENCE = sentences(80)
OUTPUTS = spoilt(REFERENCE, 0.3, 1), spoilt(REFERENCE, 0.15, 2)


def errors(unit: str = "word") -> Comparison:
    references = {str(i): text for i, text in enumerate(REFERENCE)}
    reports = [score_words(references, dict(zip(references, output, strict=True)), unit) for output in OUTPUTS]  # type: ignore[arg-type]
    return compare_errors(reports[0], reports[1], samples=300)


def test_texts_are_compared_by_approximate_randomisation_and_bootstrap() -> None:
    result = compare_texts(TextMetric("bleu"), [REFERENCE], OUTPUTS, shuffles=200, samples=300, seed=5)
    assert result.metric == "BLEU"
    assert result.difference == result.scores[1] - result.scores[0] > 0
    assert [test.name for test in result.tests] == ["approximate randomisation", "paired bootstrap"]
    assert [test.basis for test in result.tests] == ["200 random swaps", "300 resamplings"]
    assert result.tests[0].p_value == pytest.approx(1 / 201)  # no swap makes such a difference
    assert result.better == 1
    assert result.difference_interval[0] < result.difference < result.difference_interval[1]
    assert result.segments == 80
    for part in ("nrefs:1", "bs:300", "ar:200", "seed:5", "tok:13a"):
        assert part in result.signature.split("|")


def test_where_lower_is_better_the_better_system_is_the_lower_one() -> None:
    result = compare_texts(TextMetric("ter"), [REFERENCE], OUTPUTS, shuffles=200, samples=300)
    assert result.difference < 0
    assert result.better == 1
    assert conclusion(result).startswith("B is better than A by ")


def test_word_errors_are_compared_in_segments_and_characters_in_utterances() -> None:
    words, characters = errors(), errors("char")
    assert (words.metric, characters.metric) == ("WER", "CER")
    assert words.tests[0].name == "matched pairs of segments"
    assert characters.tests[0].name == "matched pairs of utterances"
    references = {str(i): text for i, text in enumerate(REFERENCE)}
    for result, unit, buffer in ((words, "word", 2), (characters, "char", None)):
        reports = [score_words(references, dict(zip(references, output, strict=True)), unit) for output in OUTPUTS]  # type: ignore[arg-type]
        segments = segment_errors(zip(reports[0].utterances, reports[1].utterances, strict=True), buffer)
        assert result.tests[0].p_value == matched_pairs(segments).p_value
        assert result.tests[0].basis.startswith(f"{len(segments)} ")
        assert result.scores == pytest.approx([100 * report.counts.rate for report in reports], rel=1e-12)
        assert result.better == 1


def test_intervals_of_error_rates_are_bisani_and_neys() -> None:
    """Their equations 3 and 4: the rate of each resample is its errors by its words, for both systems alike."""
    result = errors()
    references = {str(i): text for i, text in enumerate(REFERENCE)}
    reports = [score_words(references, dict(zip(references, output, strict=True))) for output in OUTPUTS]
    rows = np.array([[each.counts.errors for each in report.utterances] for report in reports])
    words = np.array([each.counts.references for each in reports[0].utterances])
    picks = np.random.default_rng(12345).choice(80, size=(300, 80))
    rates = 100 * rows[:, picks].sum(2) / words[picks].sum(1)
    differences = np.sort(rates[1] - rates[0])
    assert result.difference_interval == pytest.approx((differences[7], differences[-8]))
    assert result.intervals[0] == pytest.approx((np.sort(rates[0])[7], np.sort(rates[0])[-8]))


def test_the_table_has_every_number_and_a_sentence() -> None:
    result = Comparison(
        "BLEU",
        True,
        (35.214, 36.02),
        ((33.1, 37.2), (34, 38)),
        0.806,
        (-0.1, 1.71),
        0.957,
        (Significance("approximate randomisation", 0.0731, "10000 random swaps"), Significance("x", None, "y")),
        1000,
        "nrefs:1",
    )
    assert comparison_table(result, ("a.txt", "b.txt")).splitlines() == [
        "           BLEU  95 % interval",
        "A  a.txt  35.21  33.10 to 37.20",
        "B  b.txt  36.02  34.00 to 38.00  better in 95.7% of resamplings",
        "B - A     +0.81  -0.10 to +1.71",
        "",
        "test                       p-value  on",
        "approximate randomisation   0.0731  10000 random swaps",
        "x                                -  y",
        "",
        "B is ahead of A by 0.81 points of BLEU, but that may well be chance (p = 0.0731).",
        "signature: nrefs:1",
    ]


def test_the_sentence_says_what_the_first_test_says() -> None:
    result = compare_texts(TextMetric("chrf"), [REFERENCE], OUTPUTS, shuffles=200, samples=200)
    assert conclusion(result).startswith("B is better than A by ")
    other = compare_texts(TextMetric("chrf"), [REFERENCE], OUTPUTS[::-1], shuffles=200, samples=200)
    assert conclusion(other).startswith("A is better than B by ")
    same = compare_texts(TextMetric("chrf"), [REFERENCE], (OUTPUTS[0], OUTPUTS[0]), shuffles=200, samples=200)
    assert conclusion(same) == "A and B are equally good on this test set."
    unsure = replace(result, tests=(Significance("t", 0.2, ""), result.tests[1]))
    assert "may well be chance (p = 0.2000)" in conclusion(unsure)
    little = replace(result, tests=(Significance("t", None, ""), result.tests[1]))
    assert conclusion(little) == "There are too few differing segments to say whether A and B differ."


def test_json_has_what_the_table_has() -> None:
    result = errors()
    content = json.loads(json.dumps(comparison_json(result, ("x", "y")), allow_nan=False))
    assert [each["name"] for each in content["systems"]] == ["x", "y"]
    assert [each["score"] for each in content["systems"]] == list(result.scores)
    assert content["difference"] == result.difference
    assert content["tests"][0] == {
        "name": "matched pairs of segments",
        "p_value": result.tests[0].p_value,
        "on": result.tests[0].basis,
    }
    assert content["conclusion"] == conclusion(result)
    assert "jiwer:" in content["signature"]
