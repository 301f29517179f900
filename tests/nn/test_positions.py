from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from s2s.errors import UserError
from s2s.nn.positions import Positions, sinusoidal


@given(position=st.integers(-50, 5000), half=st.integers(1, 8))
def test_sinusoids_are_those_of_the_formula(position: int, half: int) -> None:
    found = sinusoidal(torch.tensor([position]), 2 * half)[0].tolist()
    for i in range(half):
        angle = position / 10000 ** (2 * i / (2 * half))
        assert found[2 * i : 2 * i + 2] == pytest.approx([math.sin(angle), math.cos(angle)], abs=2e-3)


@pytest.mark.parametrize("max_positions", [0, 9])
def test_the_first_positions_are_those_from_0_on(max_positions: int) -> None:
    positions = Positions("learned" if max_positions else "sinusoidal", 6, max_positions)
    found = positions.first(9, torch.device("cpu"))
    assert found.shape == (9, 6)
    torch.testing.assert_close(found, positions(torch.arange(9)))
    grid = torch.tensor([[3, 0], [8, 8]])
    torch.testing.assert_close(positions(grid), found[grid])


def test_a_table_is_learned_and_sinusoids_are_not() -> None:
    assert [name for name, _ in Positions("learned", 6, 4).named_parameters()] == ["weight"]
    assert not list(Positions("sinusoidal", 6).parameters())
    table = Positions("learned", 6, 4)
    assert torch.equal(table(torch.arange(4)), table.weight)  # type: ignore[arg-type]


def test_a_table_ends_and_sinusoids_do_not() -> None:
    cpu = torch.device("cpu")
    assert len(Positions("sinusoidal", 6).first(9999, cpu)) == 9999
    table = Positions("learned", 6, 4)
    assert len(table.first(4, cpu)) == 4
    with pytest.raises(UserError, match=r"5 positions is too long for this model, which learned 4"):
        table.first(5, cpu)


def test_a_row_of_no_interest_may_be_past_the_end_of_the_table() -> None:
    table = Positions("learned", 6, 4)
    assert torch.equal(table(torch.tensor([3, 4, 99])), table(torch.tensor([3, 3, 3])))
