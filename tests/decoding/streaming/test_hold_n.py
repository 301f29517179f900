from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2s.decoding.streaming.hold_n import HoldN
from s2s.decoding.streaming.policy import Proposal
from s2s.errors import UserError


@given(tokens=st.lists(st.integers(0, 9), max_size=9), n=st.integers(0, 10))
def test_the_last_n_tokens_are_held_back(tokens: list[int], n: int) -> None:
    count, _ = HoldN(n).commit(Proposal(tokens, [True] * len(tokens), 0, 9), None)
    held = list(tokens)
    for _ in range(n):
        held = held[:-1]
    assert tokens[:count] == held


def test_fewer_than_none_are_refused() -> None:
    with pytest.raises(UserError, match=r"policy.n=-1: expected 0 or more"):
        HoldN(-1)
