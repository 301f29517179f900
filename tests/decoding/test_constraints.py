"""Constraints against the set of all hypotheses that they are to allow."""

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
from s2s.decoding.constraints import PhraseConstraint, PrefixConstraint
from s2s.decoding.engine import LabelSearch
from s2s.decoding.scorers import DecoderScorer
from s2s.errors import UserError
from s2s.tokenizers import train_tokenizer

V = 7
TOKENS = [4, 5, 6]

phrase_sets = st.lists(st.lists(st.sampled_from(TOKENS), min_size=1, max_size=3), min_size=1, max_size=5)


def allowed(row: torch.Tensor) -> set[int]:
    assert set(row.tolist()) <= {0.0, -math.inf}
    return {token for token, score in enumerate(row.tolist()) if score == 0.0}


@given(
    prefixes=st.lists(st.lists(st.sampled_from(TOKENS), max_size=4), min_size=3, max_size=3), seed=st.integers(0, 99)
)
@settings(max_examples=15)
def test_each_utterance_begins_with_its_own_prefix_whoever_leaves_or_joins(
    prefixes: list[list[int]], seed: int
) -> None:
    rng = random.Random(seed)
    scorer = PrefixConstraint(prefixes, V, EOS)
    state = scorer.start(toy_memory([2, 2, 2]), 2)
    rows: list[tuple[list[int], list[int]]] = [(prefix, []) for prefix in prefixes for _ in range(2)]
    tokens = [BOS] * 6
    for _ in range(8):
        scores = scorer.score(torch.tensor(tokens), state)
        for row, (prefix, history) in zip(scores, rows, strict=True):
            expected = {prefix[len(history)]} if len(history) < len(prefix) else set(range(V))
            assert allowed(row) == expected
        stay = [b for b in range(len(rows) // 2) if rng.random() < 0.8] or [0]
        parents = [2 * b + rng.randrange(2) for b in stay for _ in range(2)]
        state = scorer.select(state, torch.tensor(parents), torch.tensor(stay))
        tokens = [rng.choice([-1, *sorted(allowed(scores[p]) - {BOS, EOS})]) for p in parents]
        rows = [(rows[p][0], [*rows[p][1], t] if t >= 0 else rows[p][1]) for p, t in zip(parents, tokens, strict=True)]
        if rng.random() < 0.5:
            prefix = [rng.choice(TOKENS) for _ in range(rng.randrange(6))]
            state = scorer.join(state, PrefixConstraint([prefix], V, EOS).start(toy_memory([2]), 2))
            rows, tokens = [*rows, (prefix, []), (prefix, [])], [*tokens, BOS, BOS]


def test_one_prefix_is_for_all_utterances() -> None:
    scorer = PrefixConstraint([[4, 5]], V, EOS)
    state = scorer.start(toy_memory([2, 2, 2]), 2)
    assert [allowed(row) for row in scorer.score(torch.full((6,), BOS), state)] == [{4}] * 6


def is_prefix(a: list[int], b: list[int]) -> bool:
    return b[: len(a)] == a


def rests(tokens: list[int], phrases: list[list[int]], separator: list[int] | None) -> list[list[int]]:
    """What follows a phrase and a separator at the beginning of the tokens, for every such phrase."""
    heads = [] if separator is None else [[*phrase, *separator] for phrase in phrases]
    return [tokens[len(head) :] for head in heads if is_prefix(head, tokens)]


def is_whole(tokens: list[int], phrases: list[list[int]], separator: list[int] | None) -> bool:
    """Whether the tokens are a phrase, or (where there is a separator, which may be empty) several."""
    return tokens in phrases or any(is_whole(r, phrases, separator) for r in rests(tokens, phrases, separator))


def is_beginning(tokens: list[int], phrases: list[list[int]], separator: list[int] | None) -> bool:
    """Whether something whole begins with the tokens."""
    heads = phrases if separator is None else [[*phrase, *separator] for phrase in phrases]
    return any(is_prefix(tokens, head) for head in heads) or any(
        is_beginning(r, phrases, separator) for r in rests(tokens, phrases, separator)
    )


@pytest.mark.parametrize("separator", [None, [], [6], [4, 6]])
@given(phrases=phrase_sets, seed=st.integers(0, 99))
@settings(max_examples=15)
def test_exactly_the_phrases_or_their_sequences_are_allowed(
    separator: list[int] | None, phrases: list[list[int]], seed: int
) -> None:
    rng = random.Random(seed)
    scorer = PhraseConstraint(phrases, V, EOS, separator is not None, separator or [])
    state = scorer.start(toy_memory([2, 2, 2]), 2)
    histories: list[list[int]] = [[] for _ in range(6)]
    tokens = [BOS] * 6
    for _ in range(10):
        scores = scorer.score(torch.tensor(tokens), state)
        for row, history in zip(scores, histories, strict=True):
            expected = {t for t in range(V) if t != EOS and is_beginning([*history, t], phrases, separator)}
            if is_whole(history, phrases, separator):
                expected.add(EOS)
            assert allowed(row) == expected
        stay = [b for b in range(len(histories) // 2) if rng.random() < 0.8] or [0]
        parents = [2 * b + rng.randrange(2) for b in stay for _ in range(2)]
        state = scorer.select(state, torch.tensor(parents), torch.tensor(stay))
        tokens = [rng.choice([-1, *sorted(allowed(scores[p]) - {EOS}) * 2]) for p in parents]
        histories = [[*histories[p], t] if t >= 0 else histories[p] for p, t in zip(parents, tokens, strict=True)]
        if rng.random() < 0.5:
            state = scorer.join(state, scorer.start(toy_memory([2]), 2))
            histories, tokens = [*histories, [], []], [*tokens, BOS, BOS]


@pytest.mark.parametrize("history", [[6], [4, 4], [4, 5, EOS]])
def test_nothing_is_allowed_after_what_was_not(history: list[int]) -> None:
    scorer = PhraseConstraint([[4, 5]], V, EOS)
    state = scorer.start(toy_memory([2]), 1)
    for token in [BOS, *history]:
        scores = scorer.score(torch.tensor([token]), state)
    assert allowed(scores[0]) == set()


@pytest.mark.parametrize(("kind", "size"), [("char", None), ("unigram", 14)])
def test_digit_strings_are_allowed_and_other_words_are_not(kind: str, size: int | None) -> None:
    tokenizer = train_tokenizer(kind, ["one two six ten"], size)
    separator = tokenizer.encode("one two")[3:4] if kind == "char" else []
    digits = [tokenizer.encode(word) for word in ("one", "two", "six")]
    scorer = PhraseConstraint(digits, tokenizer.vocab_size, EOS, repeat=True, separator=separator)
    for text, expected in [("six two one one", 0.0), ("six", 0.0), ("six ten", -math.inf), ("", -math.inf)]:
        state, total = scorer.start(toy_memory([2]), 1), 0.0
        tokens = [BOS, *tokenizer.encode(text), EOS]
        for token, following in itertools.pairwise(tokens):
            total += scorer.score(torch.tensor([token]), state)[0, following].item()
        assert total == expected


@pytest.mark.parametrize("seed", range(3))
def test_a_search_finds_the_best_of_what_is_allowed(seed: int) -> None:
    model, memory = toy_model(V, seed), toy_memory([4, 4, 4], seed)
    decoder = (DecoderScorer(model.decoder), 1.0)
    phrases = [[4], [5, 6], [6, 6, 4, 5], [5, 4]]
    prefixes = [[4, 5, 6], [6], []]

    truth: list[dict[tuple[int, ...], float]] = [{}, {}, {}]
    for b, size in itertools.product(range(3), range(5)):
        everything = list(itertools.product([1, *TOKENS], repeat=size))
        tokens = torch.tensor([[BOS, *t, EOS] for t in everything])
        log_probs = model.decoder(memory.rows(b, b + 1), tokens[:, :-1]).gather(2, tokens[:, 1:, None])
        truth[b].update(zip(everything, log_probs.sum(dim=(1, 2)).tolist(), strict=True))
    for constraint, is_allowed in [
        (PhraseConstraint(phrases, V, EOS), lambda b, tokens: tokens in phrases),
        (PrefixConstraint(prefixes, V, EOS), lambda b, tokens: is_prefix(prefixes[b], tokens)),
    ]:
        scorers = {"attention": decoder, "constraint": (constraint, 1.0)}
        for b, found in enumerate(LabelSearch(scorers, Beam(350), V, BOS, EOS, (BLANK, BOS))(memory)):
            best = max((t for t in truth[b] if is_allowed(b, list(t))), key=lambda tokens: truth[b][tokens])
            assert tuple(found[0].tokens) == best
            assert found[0].score == pytest.approx(truth[b][best], abs=1e-9)


def test_what_cannot_be_met_is_refused() -> None:
    with pytest.raises(UserError, match=r"2 prefixes for 3 utterances"):
        PrefixConstraint([[4], [5]], V, EOS).start(toy_memory([2, 2, 2]), 1)
    with pytest.raises(UserError, match=r"no prefixes"):
        PrefixConstraint([], V, EOS)
    with pytest.raises(UserError, match=r"prefix 2 has token 7: expected ids from 0 to 6"):
        PrefixConstraint([[4], [7]], V, EOS)
    with pytest.raises(UserError, match=r"no phrases"):
        PhraseConstraint([], V, EOS)
    with pytest.raises(UserError, match=r"phrase 2 is empty"):
        PhraseConstraint([[4], []], V, EOS)
    with pytest.raises(UserError, match=r"the separator has token 3"):
        PhraseConstraint([[4]], V, EOS, repeat=True, separator=[EOS])
