from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import sacrebleu
from parallel_toy import sentences, spoilt
from sacrebleu.significance import PairedTest

from s2s.scoring import resampling
from s2s.scoring.resampling import (
    Paired,
    approximate_randomisation,
    bootstrap,
    interval,
    resampled_scores,
    shuffled_differences,
)
from s2s.scoring.text_metrics import TextMetric, score_of, text_statistics

REFERENCE = sentences(60, seed=3)
OUTPUTS = spoilt(REFERENCE, 0.3, seed=1), spoilt(REFERENCE, 0.25, seed=2)
METRICS = {"bleu": sacrebleu.BLEU(), "chrf": sacrebleu.CHRF(), "ter": sacrebleu.TER()}


def paired(name: str, count: int = len(REFERENCE)) -> Paired:
    metric = TextMetric(name).build()  # type: ignore[arg-type]
    rows = [text_statistics(metric, [REFERENCE[:count]], output[:count]) for output in OUTPUTS]
    return Paired(rows[0], rows[1], lambda total: float(score_of(metric, total).score))


def error_rate(total: np.ndarray) -> float:
    return float(100 * total[0] / total[1])


@pytest.mark.parametrize("name", METRICS)
def test_every_swap_scores_as_the_swapped_texts_do(name: str) -> None:
    """All 2^6 ways to swap the outputs of six segments, each made and scored by sacrebleu; and the exact p-value."""
    count, peer = 6, METRICS[name]
    flips = np.array(list(itertools.product([False, True], repeat=count)))
    found = shuffled_differences(paired(name, count), flips)
    expected = []
    for row in flips:
        first = [OUTPUTS[int(flip)][i] for i, flip in enumerate(row)]
        second = [OUTPUTS[1 - int(flip)][i] for i, flip in enumerate(row)]
        expected.append(
            peer.corpus_score(second, [REFERENCE[:count]]).score - peer.corpus_score(first, [REFERENCE[:count]]).score
        )
    np.testing.assert_allclose(found, expected, atol=1e-9)
    exact = np.mean(np.abs(expected) >= abs(expected[0]) - 1e-9)
    assert 0 < exact < 1
    p_value = approximate_randomisation(paired(name, count), 4000)
    assert p_value == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 4000) + 1 / 4000)


@pytest.mark.parametrize("name", METRICS)
def test_every_resample_scores_as_the_resampled_texts_do(name: str) -> None:
    """All 3^3 ways to draw three of three segments; the share in which the second is better follows."""
    count, peer = 3, METRICS[name]
    picks = np.array(list(itertools.product(range(count), repeat=count)))
    found = resampled_scores(paired(name, count), iter(picks))
    expected = [
        [peer.corpus_score([output[i] for i in row], [[REFERENCE[i] for i in row]]).score for output in OUTPUTS]
        for row in picks
    ]
    np.testing.assert_allclose(found, expected, atol=1e-9)
    differences = found[:, 1] - found[:, 0]
    better = np.mean(differences > 1e-9) + np.mean(np.abs(differences) <= 1e-9) / 2
    assert bootstrap(paired(name, count), 4000).better == pytest.approx(better, abs=0.035)


@pytest.mark.parametrize("name", METRICS)
def test_p_values_of_approximate_randomisation_are_sacrebleus(name: str) -> None:
    systems = [("a", OUTPUTS[0]), ("b", OUTPUTS[1])]
    scores = PairedTest(systems, {name: METRICS[name]}, [REFERENCE], "ar", n_samples=500)()[1]
    result = next(value for key, value in scores.items() if key != "System")
    mine = paired(name)
    assert mine.scores == (result[0].score, result[1].score)
    assert approximate_randomisation(mine, 500) == result[1].p_value


@pytest.mark.parametrize("name", METRICS)
def test_resamples_of_the_bootstrap_are_sacrebleus(name: str) -> None:
    """Its mean, its interval and its own p-value follow from ours: the same segments were drawn."""
    systems = [("a", OUTPUTS[0]), ("b", OUTPUTS[1])]
    scores = PairedTest(systems, {name: METRICS[name]}, [REFERENCE], "bs", n_samples=300)()[1]
    result = next(value for key, value in scores.items() if key != "System")
    mine = paired(name)
    picks = np.random.default_rng(resampling.SEED).choice(60, size=(300, 60))
    drawn = resampled_scores(mine, iter(picks))
    assert drawn[:, 1].mean() == pytest.approx(result[1].mean, rel=1e-5)
    ends = bootstrap(mine, 300)
    assert (ends.second[1] - ends.second[0]) / 2 == pytest.approx(result[1].ci, rel=1e-5)  # float32 there
    assert ends.difference == interval(drawn[:, 1] - drawn[:, 0])
    spread = np.abs(drawn[:, 1] - drawn[:, 0])
    theirs = (np.sum(spread - spread.mean() > abs(mine.difference)) + 1) / 301
    assert theirs == pytest.approx(result[1].p_value)


def test_drawing_in_blocks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = paired("chrf")
    whole = approximate_randomisation(mine, 200), bootstrap(mine, 200)
    monkeypatch.setattr(resampling, "_BLOCK", 60 * 7)
    assert (approximate_randomisation(mine, 200), bootstrap(mine, 200)) == whole


def test_another_seed_draws_others() -> None:
    mine = paired("ter")
    assert bootstrap(mine, 200, seed=1) == bootstrap(mine, 200, seed=1) != bootstrap(mine, 200, seed=2)
    values = {approximate_randomisation(mine, 999, seed) for seed in range(4)}
    assert len(values) > 1


def test_a_system_is_not_better_than_itself() -> None:
    rows = paired("bleu").first
    same = Paired(rows, rows, paired("bleu").score)
    assert approximate_randomisation(same, 200) == 1
    result = bootstrap(same, 200)
    assert (result.p_value, result.better, result.difference) == (1, 0.5, (0, 0))


def test_turning_the_systems_round_turns_the_result_round() -> None:
    mine = paired("bleu")
    other = Paired(mine.second, mine.first, mine.score)
    assert other.difference == -mine.difference
    assert approximate_randomisation(other, 300) == approximate_randomisation(mine, 300)
    forth, back = bootstrap(mine, 300), bootstrap(other, 300)
    assert (back.first, back.second, back.p_value) == (forth.second, forth.first, forth.p_value)
    assert back.better == pytest.approx(1 - forth.better)
    assert back.difference == pytest.approx((-forth.difference[1], -forth.difference[0]))


def null_experiments(count: int, segments: int) -> list[Paired]:
    """Two equally good systems, the same references: errors and words of each segment."""
    chance = np.random.default_rng(7)
    found = []
    for _ in range(count):
        words = chance.integers(5, 20, segments)
        rows = [np.stack([chance.binomial(words, 0.2), words], 1).astype(np.float64) for _ in range(2)]
        found.append(Paired(rows[0], rows[1], error_rate))
    return found


def test_p_values_are_uniform_where_the_systems_are_equally_good() -> None:
    experiments = null_experiments(300, 60)
    for test in (approximate_randomisation, lambda each, samples: bootstrap(each, samples).p_value):
        values = np.sort([test(each, 199) for each in experiments])
        ranks = np.arange(1, 301) / 300
        # Kolmogorov and Smirnov's distance, which uniform values exceed in 1 of 1000 cases; 1/200 by the samples
        assert np.abs(values - ranks).max() < 1.95 / math.sqrt(300) + 1 / 200
        assert 0.02 < np.mean(values <= 0.05) < 0.09


def test_p_values_of_bleu_are_uniform_on_resampled_text() -> None:
    """Segments drawn from two systems, whose outputs change sides at random: neither is better."""
    mine = paired("bleu")
    chance = np.random.default_rng(9)
    found = []
    for _ in range(200):
        picks, sides = chance.integers(0, 60, 40), chance.integers(0, 2, (40, 1))
        rows = (
            np.where(sides, mine.second[picks], mine.first[picks]),
            np.where(sides, mine.first[picks], mine.second[picks]),
        )
        found.append(approximate_randomisation(Paired(*rows, mine.score), 199))
    assert np.abs(np.sort(found) - np.arange(1, 201) / 200).max() < 1.95 / math.sqrt(200) + 1 / 200


def test_the_interval_holds_the_true_difference_in_95_of_100_test_sets() -> None:
    inside = [low <= 0 <= high for low, high in (bootstrap(each, 200).difference for each in null_experiments(300, 60))]
    assert 0.91 < np.mean(inside) < 0.98


def test_an_interval_leaves_out_a_fortieth_at_each_end() -> None:
    values = np.random.default_rng(0).permutation(1000).astype(float)
    assert interval(values) == (25, 974)
    assert interval(values[:1]) == (values[0], values[0])
