"""Repeated n-grams and repeated text."""

from __future__ import annotations

import math
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import BOS, EOS, toy_memory

from s2s.decoding.hypothesis import Hypothesis
from s2s.decoding.repetition import NgramBlocking, compression_ratio, demote_loops
from s2s.errors import UserError

V = 7


def repeating(history: list[int], size: int) -> set[int]:
    """The tokens that would end an n-gram that the history already has."""
    ngrams = [history[i : i + size] for i in range(len(history) - size + 1)]
    return {token for token in range(V) if [*history, token][-size:] in ngrams}


@given(size=st.integers(1, 4), steps=st.sampled_from([6, 40]), seed=st.integers(0, 999))
@settings(max_examples=12)
def test_exactly_the_tokens_that_repeat_an_ngram_are_forbidden(size: int, steps: int, seed: int) -> None:
    rng = random.Random(seed)
    scorer = NgramBlocking(size, V)
    state = scorer.start(toy_memory([2, 2, 2]), 2)
    histories: list[list[int]] = [[] for _ in range(6)]
    tokens = [BOS] * 6
    for _ in range(steps):  # more of them than the state has room for at first
        scores = scorer.score(torch.tensor(tokens), state)
        for row, history in zip(scores, histories, strict=True):
            forbidden = repeating(history, size)
            assert [row[v] for v in range(V) if v != BOS] == [
                -math.inf if v in forbidden else 0.0 for v in range(V) if v != BOS
            ]
        stay = [b for b in range(len(histories) // 2) if rng.random() < 0.8] or [0]
        parents = [2 * b + rng.randrange(2) for b in stay for _ in range(2)]
        state = scorer.select(state, torch.tensor(parents), torch.tensor(stay))
        # the tokens come back all the time, forbidden or not
        tokens = [rng.choice([-1, 0, 1, 4, 5, 6]) for _ in parents]
        histories = [[*histories[p], t] if t >= 0 else histories[p] for p, t in zip(parents, tokens, strict=True)]
        if rng.random() < 0.4:
            state = scorer.join(state, scorer.start(toy_memory([2]), 2))
            histories, tokens = [*histories, [], []], [*tokens, BOS, BOS]


def test_a_younger_batch_takes_in_an_older_one() -> None:
    scorer = NgramBlocking(2, V)
    old, young = scorer.start(toy_memory([2]), 1), scorer.start(toy_memory([2]), 1)
    for token in [BOS, *[4, 5] * 20]:
        scorer.score(torch.tensor([token]), old)
    scorer.score(torch.tensor([BOS]), young)
    joined = scorer.join(young, old)
    scorer.score(torch.tensor([5, -1]), joined)
    scores = scorer.score(torch.tensor([6, 6]), joined)
    assert scores.tolist() == [[0.0] * V] * 2
    scores = scorer.score(torch.tensor([5, 5]), joined)
    assert [[v for v in range(V) if row[v] == -math.inf] for row in scores] == [[6], [4, 6]]


def test_an_ngram_size_below_one_is_refused() -> None:
    with pytest.raises(UserError, match=r"ngram_size=0: expected 1 or more"):
        NgramBlocking(0, V)


def test_text_that_loops_is_above_the_threshold_and_speech_is_below() -> None:
    speech = "the sun had risen over the harbour, and the first of the boats was already on its way out to the open sea"
    assert 0.5 < compression_ratio(speech) < 2.4
    assert compression_ratio("and then " * 30) > 2.4
    assert compression_ratio("") == 0.0
    assert compression_ratio("ü" * 50) == pytest.approx(2 * compression_ratio("u" * 50), rel=0.2)  # bytes, not letters


def test_hypotheses_that_loop_go_behind_all_others_in_their_order() -> None:
    texts = {4: "go " * 50, 5: "one two three", 6: "no " * 40, EOS: "four five"}
    hypotheses = [Hypothesis([token], -float(n)) for n, token in enumerate(texts)]
    ranked = demote_loops(hypotheses, lambda tokens: texts[tokens[0]])
    assert [h.tokens for h in ranked] == [[5], [EOS], [4], [6]]
    assert demote_loops(hypotheses, lambda tokens: texts[tokens[0]], max_ratio=1e9) == hypotheses
