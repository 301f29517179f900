"""Phrase bias against a direct count of the phrases in a hypothesis."""

from __future__ import annotations

import itertools
import math
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import BLANK, BOS, EOS, toy_memory, toy_model

from s2s.decoding.beam import Beam
from s2s.decoding.bias import PhraseBias
from s2s.decoding.engine import LabelSearch
from s2s.decoding.scorers import DecoderScorer
from s2s.errors import UserError
from s2s.models.memory import Memory
from s2s.tokenizers import train_tokenizer

Phrases = list[tuple[list[int], float]]

PIECES = ["<blank>", "<unk>", "<s>", "</s>", "▁a", "▁b", "a", "b", "▁", "c▁", ",", "'b"]
V = len(PIECES)
OTHER = 1  # a token of no phrase

phrase_sets = st.lists(
    st.tuples(st.lists(st.integers(4, V - 1), min_size=1, max_size=4), st.sampled_from([-2.0, 0.0, 0.5, 1.0, 3.0])),
    min_size=1,
    max_size=6,
)
pieces_or_none = st.sampled_from([PIECES, None])


def word_edges(tokens: list[int], pieces: list[str] | None) -> list[bool]:
    """Whether a word may begin or end before token i, for i from 0 to the number of tokens."""
    if pieces is None:
        return [True] * (len(tokens) + 1)
    inner = [pieces[b].startswith(("▁", ",")) or pieces[a].endswith("▁") for a, b in itertools.pairwise(tokens)]
    return [True, *inner, True] if tokens else [True]


def count(phrases: Phrases, tokens: list[int], pieces: list[str] | None, known: int) -> float:
    """Boosts of all occurrences that end at token `known` or before."""
    edges = word_edges(tokens, pieces)
    return sum(
        boost
        for phrase, boost in phrases
        for i in range(known - len(phrase) + 1)
        if tokens[i : i + len(phrase)] == phrase and edges[i] and edges[i + len(phrase)]
    )


def potential(phrases: Phrases, tokens: list[int], pieces: list[str] | None) -> float:
    edges = word_edges(tokens, pieces)
    best = complete = 0.0
    for phrase, boost in phrases:
        for depth in range(1, min(len(phrase), len(tokens)) + 1):
            start = len(tokens) - depth
            if tokens[start:] == phrase[:depth] and edges[start]:
                if depth == len(phrase):
                    complete += boost
                else:
                    best = max(best, boost * depth / len(phrase))
    return max(best, complete)


def true_gains(phrases: Phrases, tokens: list[int], pieces: list[str] | None) -> list[float]:
    """By definition: what a hypothesis is worth with one more token, less what it was worth."""

    def worth(tokens: list[int]) -> float:
        return count(phrases, tokens, pieces, len(tokens) - 1) + potential(phrases, tokens, pieces)

    gains = [worth([*tokens, token]) - worth(tokens) for token in range(V)]
    gains[EOS] = count(phrases, tokens, pieces, len(tokens)) - worth(tokens)
    return gains


def totals(scorer: PhraseBias, hypotheses: list[list[int]]) -> list[float]:
    """The sum of the scores of whole hypotheses, eos included, all in one batch of rows of different lengths."""
    state = scorer.start(toy_memory([1] * len(hypotheses)), 1)
    sums = torch.zeros(len(hypotheses), dtype=torch.float64)
    last = torch.full((len(hypotheses),), BOS)
    for step in range(max(map(len, hypotheses)) + 1):
        scores = scorer.score(last, state)
        following = torch.tensor([[*h, EOS][step] if step <= len(h) else -1 for h in hypotheses])
        sums += torch.where(following < 0, 0.0, scores.gather(1, following.clamp(min=0).unsqueeze(1)).squeeze(1))
        last = following
    return sums.tolist()


@given(phrases=phrase_sets, pieces=pieces_or_none, seed=st.integers(0, 999))
@settings(max_examples=15)
def test_scores_are_by_definition_while_hypotheses_branch_wait_leave_and_join(
    phrases: Phrases, pieces: list[str] | None, seed: int
) -> None:
    rng = random.Random(seed)
    scorer = PhraseBias(phrases, V, BOS, EOS, pieces)
    state = scorer.start(toy_memory([2, 2, 2]), 2)
    histories: list[list[int]] = [[] for _ in range(6)]
    tokens = [BOS] * 6
    for _ in range(10):
        scores = scorer.score(torch.tensor(tokens), state)
        for row, history in zip(scores, histories, strict=True):
            expected = true_gains(phrases, history, pieces)
            assert [row[v] for v in range(V) if v != BOS] == pytest.approx(
                [expected[v] for v in range(V) if v != BOS], abs=1e-12
            )
            assert max(row) <= scorer.max_gain + 1e-12
        stay = [b for b in range(len(histories) // 2) if rng.random() < 0.8] or [0]
        parents = [2 * b + rng.randrange(2) for b in stay for _ in range(2)]
        state = scorer.select(state, torch.tensor(parents), torch.tensor(stay))
        tokens = [rng.choice([-1, OTHER, *range(4, V), *phrases[0][0]]) for _ in parents]
        histories = [[*histories[p], t] if t >= 0 else histories[p] for p, t in zip(parents, tokens, strict=True)]
        if rng.random() < 0.5:
            state = scorer.join(state, scorer.start(toy_memory([2]), 2))
            histories, tokens = [*histories, [], []], [*tokens, BOS, BOS]


@given(
    phrases=phrase_sets,
    pieces=pieces_or_none,
    hypotheses=st.lists(st.lists(st.integers(4, V - 1), max_size=12), min_size=1, max_size=5),
)
@settings(max_examples=15)
def test_a_whole_hypothesis_scores_the_boosts_of_the_phrases_in_it(
    phrases: Phrases, pieces: list[str] | None, hypotheses: list[list[int]]
) -> None:
    hypotheses.append([token for phrase, _ in phrases for token in phrase])
    expected = [count(phrases, tokens, pieces, len(tokens)) for tokens in hypotheses]
    assert totals(PhraseBias(phrases, V, BOS, EOS, pieces), hypotheses) == pytest.approx(expected, abs=1e-12)


WORDS = ["one", "ones", "someone", "on", "e", "two", "onetwo"]


@pytest.mark.parametrize(("kind", "size"), [("char", None), ("unigram", 16), ("bpe", 20)])
@given(
    phrases=st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=3), min_size=1, max_size=4),
    texts=st.lists(st.lists(st.sampled_from(WORDS), max_size=8), min_size=1, max_size=4),
)
@settings(max_examples=15)
def test_with_every_tokenizer_a_phrase_is_found_as_whole_words_only(
    kind: str, size: int | None, phrases: list[list[str]], texts: list[list[str]]
) -> None:
    tokenizer = train_tokenizer(kind, [" ".join(WORDS)], size)
    scorer = PhraseBias(
        [(tokenizer.encode(" ".join(phrase)), 1.0 + i) for i, phrase in enumerate(phrases)],
        tokenizer.vocab_size,
        BOS,
        EOS,
        tokenizer.pieces(range(tokenizer.vocab_size)),
    )
    texts.append([word for phrase in phrases for word in phrase])
    expected = [
        sum(1.0 + i for i, p in enumerate(phrases) for j in range(len(text)) if text[j : j + len(p)] == p)
        for text in texts
    ]
    assert totals(scorer, [tokenizer.encode(" ".join(text)) for text in texts]) == pytest.approx(expected, abs=1e-12)


@given(
    phrases=st.lists(
        st.tuples(st.lists(st.sampled_from([1, 4, 5]), min_size=1, max_size=3), st.sampled_from([-2.0, 1.0, 4.0])),
        min_size=1,
        max_size=4,
    ),
    seed=st.integers(0, 99),
)
@settings(max_examples=8)
def test_a_beam_as_wide_as_the_space_finds_the_best_biased_hypothesis(phrases: Phrases, seed: int) -> None:
    model, memory = toy_model(6, seed), toy_memory([4, 2], seed)
    scorers = {
        "attention": (DecoderScorer(model.decoder), 1.0),
        "bias": (PhraseBias(phrases, 6, BOS, EOS, PIECES[:6]), 0.5),
    }
    found = LabelSearch(scorers, Beam(150), 6, BOS, EOS, (BLANK, BOS))(memory)
    for b, limit in enumerate([4, 2]):
        best = -math.inf
        for size in range(limit + 1):
            everything = list(itertools.product([1, 4, 5], repeat=size))
            tokens = torch.tensor([[BOS, *t, EOS] for t in everything])
            log_probs = model.decoder(memory.rows(b, b + 1), tokens[:, :-1]).gather(2, tokens[:, 1:, None])
            for attention, t in zip(log_probs.sum(dim=(1, 2)).tolist(), everything, strict=True):
                best = max(best, attention + 0.5 * count(phrases, list(t), PIECES, size))
        assert found[b][0].score == pytest.approx(best, abs=1e-9)
        assert found[b][0].scores["bias"] == pytest.approx(
            count(phrases, found[b][0].tokens, PIECES, len(found[b][0].tokens)), abs=1e-9
        )


@given(
    phrases=st.lists(
        st.tuples(st.lists(st.integers(4, 6), min_size=1, max_size=3), st.sampled_from([-1.0, 1.0, 2.5])),
        min_size=1,
        max_size=4,
    )
)
@settings(max_examples=10)
def test_the_most_one_token_can_add_is_known(phrases: Phrases) -> None:
    reached = max(
        gain
        for size in range(5)
        for tokens in itertools.product([4, 5, 6], repeat=size)
        for gain in true_gains(phrases, list(tokens), None)
    )
    assert PhraseBias(phrases, V, BOS, EOS).max_gain == pytest.approx(reached, abs=1e-12)


def test_a_match_under_way_is_paid_in_advance_and_a_failed_one_pays_back() -> None:
    scorer = PhraseBias([([4, 6, 7], 3.0)], V, BOS, EOS, PIECES)
    state = scorer.start(toy_memory([1]), 1)
    gains = []
    for token, following in [(BOS, 4), (4, 6), (6, 7), (7, 6)]:
        gains.append(scorer.score(torch.tensor([token]), state)[0, following].item())
    assert gains == [1.0, 1.0, 1.0, -3.0]  # "▁aab" is in the hypothesis, but the word goes on


@pytest.mark.parametrize(
    ("given_type", "expected"), [("float64", "float64"), ("float32", "float32"), ("bfloat16", "float32")]
)
def test_scores_have_the_precision_of_the_memory_but_at_least_float32(given_type: str, expected: str) -> None:
    scorer = PhraseBias([([4], 1.0)], V, BOS, EOS)
    memory = Memory(torch.zeros(1, 2, 3, dtype=getattr(torch, given_type)), torch.tensor([2]))
    assert scorer.score(torch.tensor([BOS]), scorer.start(memory, 1)).dtype == getattr(torch, expected)


@pytest.mark.parametrize(
    ("phrases", "pieces", "message"),
    [
        ([], None, r"no phrases"),
        ([([4], 1.0), ([], 1.0)], None, r"phrase 2 is empty"),
        ([([4, V], 1.0)], None, r"phrase 1 has token 12: expected ids from 0 to 11"),
        ([([EOS], 1.0)], None, r"phrase 1 has token 3"),
        ([([4], float("inf"))], None, r"phrase 1 has boost inf: expected a finite number"),
        ([([4], 1.0)], PIECES[:-1], r"11 pieces for a vocabulary of 12"),
    ],
)
def test_phrases_that_are_not_of_the_vocabulary_are_refused(
    phrases: Phrases, pieces: list[str] | None, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        PhraseBias(phrases, V, BOS, EOS, pieces)
