"""Rotations of queries and keys."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from s2s.errors import UserError
from s2s.nn.attention.rotary import Rotary


@given(position=st.integers(0, 5000), half=st.integers(1, 4), seed=st.integers(0, 99))
@settings(max_examples=15)
def test_each_pair_of_features_is_turned_by_its_angle(position: int, half: int, seed: int) -> None:
    torch.manual_seed(seed)
    x = torch.randn(1, 2, 1, 2 * half).double()
    found = Rotary(2 * half).rotate(x, torch.tensor([position]))
    for head in range(2):
        for i in range(half):
            angle = position * 10000 ** (-2 * i / (2 * half))
            number = complex(*x[0, head, 0, 2 * i : 2 * i + 2].tolist())
            number *= complex(math.cos(angle), math.sin(angle))
            assert found[0, head, 0, 2 * i].item() == pytest.approx(number.real, abs=1e-9)
            assert found[0, head, 0, 2 * i + 1].item() == pytest.approx(number.imag, abs=1e-9)


@given(i=st.integers(0, 300), j=st.integers(0, 300), moved=st.integers(0, 1000))
@settings(max_examples=15)
def test_a_score_depends_on_the_distance_only(i: int, j: int, moved: int) -> None:
    torch.manual_seed(0)
    query, key, rotary = torch.randn(1, 1, 1, 8).double(), torch.randn(1, 1, 1, 8).double(), Rotary(8)

    def score(a: int, b: int) -> torch.Tensor:
        return (rotary.rotate(query, torch.tensor([a])) * rotary.rotate(key, torch.tensor([b]))).sum()

    torch.testing.assert_close(score(i + moved, j + moved), score(i, j), rtol=1e-9, atol=1e-9)


def test_every_utterance_may_have_its_own_positions() -> None:
    x, rotary = torch.randn(3, 2, 4, 6), Rotary(6)
    positions = torch.tensor([[0, 1, 2, 3], [5, 6, 7, 8], [9, 1, 4, 0]])
    found = rotary.rotate(x, positions)
    for b in range(3):
        torch.testing.assert_close(found[b : b + 1], rotary.rotate(x[b : b + 1], positions[b]))


def test_an_odd_head_is_refused() -> None:
    with pytest.raises(UserError, match=r"positions=rotary: head_dim=5 must be even"):
        Rotary(5)
