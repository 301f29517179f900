"""The expected utility of every hypothesis equals its definition, and the best by it comes first."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import BLANK, BOS, EOS, toy_memory, toy_model

from s2s.decoding.engine import LabelSearch
from s2s.decoding.hypothesis import Hypothesis
from s2s.decoding.mbr import MBRSearch
from s2s.decoding.sampling import Sampling
from s2s.decoding.scorers import DecoderScorer
from s2s.errors import UserError
from s2s.models.memory import Memory

WORDS = ("", "a", "b", "cat", "the cat", "mat")  # of tokens 0 to 5; token 0 has no text
Listed = list[tuple[list[int], float]]


def decode(tokens: Sequence[int]) -> str:
    return " ".join(WORDS[token] for token in tokens if WORDS[token])


def hypotheses(listed: Listed) -> list[Hypothesis]:
    return [Hypothesis(tokens, score, {"attention": score}) for tokens, score in listed]


def mbr(*lists: Listed, **options: object) -> list[list[Hypothesis]]:
    def inner(memory: Memory) -> list[list[Hypothesis]]:
        return [hypotheses(listed) for listed in lists]

    return MBRSearch(inner, decode, **options)(toy_memory([1] * len(lists)))  # type: ignore[arg-type]


def word_errors(a: list[str], b: list[str]) -> int:
    if not a or not b:
        return len(a) + len(b)
    return min(word_errors(a[1:], b) + 1, word_errors(a, b[1:]) + 1, word_errors(a[1:], b[1:]) + (a[0] != b[0]))


def utility(name: str, text: str, reference: str) -> float:
    if name == "wer":
        return -float(word_errors(text.split(), reference.split()))
    if not text and not reference:
        return 100.0
    if name == "bleu":
        return sacrebleu.sentence_bleu(text, [reference], use_effective_order=True).score
    return sacrebleu.sentence_chrf(text, [reference]).score


lists = st.lists(
    st.tuples(st.lists(st.integers(0, 5), max_size=3), st.floats(-20, 0).map(lambda x: round(x, 2))), max_size=7
)


@given(
    listed=lists,
    name=st.sampled_from(["wer", "bleu", "chrf"]),
    weights=st.sampled_from(["uniform", "score"]),
    temperature=st.sampled_from([0.5, 1.0, 4.0]),
)
@settings(max_examples=60)
def test_expected_utilities_are_those_of_the_definition(
    listed: Listed, name: str, weights: str, temperature: float
) -> None:
    scores = {tuple(tokens): score for tokens, score in listed}  # a model gives equal sequences equal scores
    listed = [(tokens, scores[tuple(tokens)]) for tokens, _ in listed]
    if weights == "uniform":
        probabilities = [(tokens, 1 / len(listed)) for tokens, _ in listed]
    else:
        total = sum(math.exp(score / temperature) for score in scores.values())
        probabilities = [(list(tokens), math.exp(score / temperature) / total) for tokens, score in scores.items()]
    expected = {
        decode(tokens): sum(p * utility(name, decode(tokens), decode(other)) for other, p in probabilities)
        for tokens, _ in listed
    }
    found = mbr(listed, utility=name, weights=weights, temperature=temperature, nbest=100)[0]
    assert len(found) == len(expected)
    for hypothesis in found:
        text = decode(hypothesis.tokens)
        assert hypothesis.score == pytest.approx(expected.pop(text), abs=1e-9)
        assert hypothesis.scores["model"] == max(score for tokens, score in listed if decode(tokens) == text)
        assert hypothesis.scores["model"] == hypothesis.scores["attention"] == scores[tuple(hypothesis.tokens)]
    order = [(h.score, h.scores["model"]) for h in found]
    assert order == sorted(order, reverse=True)


def test_what_agrees_with_the_others_beats_the_most_probable_one() -> None:
    nbest = [([5, 5, 5], math.log(0.4)), ([1, 2, 3], math.log(0.35)), ([1, 2], math.log(0.25))]
    best = mbr(nbest, weights="score")[0]
    assert [h.tokens for h in best] == [[1, 2, 3]]
    assert best[0].score == pytest.approx(-(0.4 * 3 + 0.25 * 1))
    assert mbr(nbest, weights="score", temperature=0.01)[0][0].tokens == [5, 5, 5]


def test_a_sample_drawn_twice_counts_twice_but_an_nbest_entry_once() -> None:
    listed = [([1], -1.0), ([2, 2], -1.0), ([2, 2], -1.0), ([2, 2], -1.0)]
    assert [(h.tokens, h.score) for h in mbr(listed, nbest=4)[0]] == [([2, 2], -0.5), ([1], -1.5)]
    assert [h.score for h in mbr(listed, weights="score", nbest=4)[0]] == [-1.0, -1.0]


def test_segmentations_of_one_text_count_together_and_the_best_of_them_is_returned() -> None:
    listed = [([5], -1.0), ([0, 1], -3.0), ([1, 0], -2.0), ([1], -4.0)]
    for weights in ("uniform", "score"):
        best = mbr(listed, weights=weights, temperature=100.0)[0][0]
        assert (best.tokens, best.scores["model"]) == ([1, 0], -2.0)


@pytest.mark.parametrize(("name", "full"), [("wer", 0.0), ("bleu", 100.0), ("chrf", 100.0)])
def test_one_hypothesis_agrees_fully_with_itself_even_when_empty(name: str, full: float) -> None:
    for tokens in ([1, 4], [], [0]):
        found = mbr([(tokens, -3.0)], utility=name, weights="score")[0]
        assert [(h.tokens, h.score, h.scores["model"]) for h in found] == [(tokens, full, -3.0)]


@pytest.mark.parametrize("name", ["wer", "bleu", "chrf"])
def test_samples_that_are_mostly_empty_give_an_empty_answer(name: str) -> None:
    assert mbr([([1, 2], -1.0), ([], -2.0), ([], -2.0)], utility=name)[0][0].tokens == []


def test_ties_go_to_the_higher_model_score_then_to_the_first() -> None:
    assert [h.tokens for h in mbr([([1], -3.0), ([2], -2.0), ([3], -2.0)], nbest=3)[0]] == [[2], [3], [1]]


def test_every_utterance_has_its_own_answer_and_none_for_an_empty_list() -> None:
    first, second = [([1], -1.0)], [([2], -1.0), ([2], -1.0), ([3], -0.5)]
    assert [[h.tokens for h in found] for found in mbr(first, [], second)] == [[[1]], [], [[2]]]


def test_over_samples_of_a_model_an_utterance_has_the_same_answer_alone_and_in_a_batch() -> None:
    model, memory = toy_model(6), toy_memory([7, 3, 5])
    samples = LabelSearch(
        {"attention": (DecoderScorer(model.decoder), 1.0)}, Sampling(20), 6, BOS, EOS, (BLANK, BOS), nbest=20
    )
    search = MBRSearch(samples, decode, nbest=20)
    together = search(memory)
    assert all(len(found) > 2 for found in together)
    for b, found in enumerate(together):
        alone = search(memory.rows(b, b + 1))[0]
        assert [(h.tokens, h.score) for h in alone] == [(h.tokens, h.score) for h in found]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"utility": "blue"}, r"utility=blue: expected one of wer, bleu, chrf\. Did you mean 'bleu'\?"),
        ({"weights": "scores"}, r"weights=scores: expected one of uniform, score\. Did you mean 'score'\?"),
        ({"temperature": 0.0}, r"temperature=0\.0: expected"),
        ({"nbest": 0}, r"nbest=0: expected"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        mbr([([1], -1.0)], **options)
