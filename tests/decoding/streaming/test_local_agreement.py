"""Local agreement against its definition."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2s.decoding.streaming.local_agreement import LocalAgreement
from s2s.decoding.streaming.policy import Proposal
from s2s.errors import UserError

WORDS = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=3), max_size=5)


def common(texts: list[list[list[int]]]) -> list[list[int]]:
    """The longest common prefix."""
    count = 0
    while all(len(text) > count and text[count] == texts[0][count] for text in texts):
        count += 1
    return texts[0][:count]


def hypotheses_of(texts: list[list[list[int]]], n: int, tokens_are_words: bool) -> list[tuple[int, int]]:
    """How much is committed to of each of some texts in a row, and how much should be; they keep what was."""
    policy, committed = LocalAgreement(n), list[list[int]]()
    state, seen, counts = policy.start(), [], []
    for words in texts:
        own = [[token] for word in words for token in word] if tokens_are_words else words
        own = [*committed, *own[len(committed) :]]  # as the search does
        seen.append(own)
        agreed = [] if len(seen) < n else common(seen[-n:])
        tokens = [token for word in own for token in word]
        begins = [i == 0 for word in own for i in range(len(word))]
        count, state = policy.commit(Proposal(tokens, begins, sum(map(len, committed)), 99), state)
        counts.append((count, sum(map(len, agreed))))
        committed = agreed if len(agreed) > len(committed) else committed
    return counts


@given(texts=st.lists(WORDS, max_size=6), n=st.integers(2, 4))
def test_tokens_are_the_longest_common_prefix_of_the_last_n_hypotheses(texts: list[list[list[int]]], n: int) -> None:
    for found, expected in hypotheses_of(texts, n, tokens_are_words=True):
        assert found == expected


@given(texts=st.lists(WORDS, max_size=6), n=st.integers(2, 4))
def test_words_are_the_longest_common_prefix_of_the_last_n_hypotheses(texts: list[list[list[int]]], n: int) -> None:
    for found, expected in hypotheses_of(texts, n, tokens_are_words=False):
        assert found == expected


def test_a_word_that_another_hypothesis_goes_on_with_is_not_agreed_on() -> None:
    policy = LocalAgreement()
    _, state = policy.commit(Proposal([7, 8, 9], [True, True, False], 0, 9), policy.start())
    assert policy.commit(Proposal([7, 8], [True, True], 0, 9), state)[0] == 1


def test_of_one_hypothesis_nothing_is_agreed_on() -> None:
    with pytest.raises(UserError, match=r"policy.n=1: expected 2 or more"):
        LocalAgreement(1)
