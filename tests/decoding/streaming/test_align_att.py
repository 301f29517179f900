"""AlignAtt against a loop over the attention."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from s2s.decoding.streaming.align_att import AlignAtt
from s2s.decoding.streaming.policy import Proposal
from s2s.errors import UserError


@given(
    size=st.integers(0, 6),
    committed=st.integers(0, 3),
    heard=st.integers(1, 12),
    frames=st.integers(1, 12),
    seed=st.integers(0, 999),
)
def test_it_ends_before_the_first_token_that_is_aligned_with_the_end(
    size: int, committed: int, heard: int, frames: int, seed: int
) -> None:
    attention = torch.randn(size, heard, generator=torch.Generator().manual_seed(seed))
    expected = committed
    for i in range(size):
        best = 0
        for t in range(heard):
            if attention[i, t] > attention[i, best]:
                best = t
        if best >= heard - frames:
            break
        expected += 1
    every = [True] * (committed + size)
    proposal = Proposal([0] * (committed + size), every, committed, heard, attention)
    assert AlignAtt(frames).commit(proposal, None)[0] == expected


def test_no_frames_are_refused() -> None:
    with pytest.raises(UserError, match=r"policy.frames=0: expected 1 or more"):
        AlignAtt(0)
