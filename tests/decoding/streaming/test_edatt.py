"""EDAtt against a loop over the attention."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from s2s.decoding.streaming.edatt import EDAtt
from s2s.decoding.streaming.policy import Proposal
from s2s.errors import UserError


@given(
    size=st.integers(0, 6),
    committed=st.integers(0, 3),
    heard=st.integers(1, 9),
    alpha=st.floats(0.05, 1.0),
    frames=st.integers(1, 10),
    seed=st.integers(0, 999),
)
def test_it_ends_before_the_first_token_that_looks_at_the_end(
    size: int, committed: int, heard: int, alpha: float, frames: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    attention = (3 * torch.randn(size, heard, generator=generator)).softmax(dim=-1).double()
    expected = committed
    for i in range(size):
        total = 0.0
        for t in range(heard):
            if t >= heard - frames:
                total += attention[i, t].item()
        if total >= alpha + 1e-9:
            break
        expected += 1
    every = [True] * (committed + size)
    proposal = Proposal([0] * (committed + size), every, committed, heard, attention)
    assert EDAtt(alpha, frames).commit(proposal, None)[0] == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 0.0}, r"policy.alpha=0.0: expected a number above 0"),
        ({"alpha": 1.1}, r"policy.alpha=1.1: expected a number above 0, at most 1"),
        ({"alpha": float("nan")}, r"policy.alpha=nan"),
        ({"frames": 0}, r"policy.frames=0: expected 1 or more"),
    ],
)
def test_values_out_of_range_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        EDAtt(**options)  # type: ignore[arg-type]
