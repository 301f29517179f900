from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2s.errors import UserError
from s2s.training.schedule import SCHEDULES, check_schedule, learning_rate_factor


@pytest.mark.parametrize("schedule", SCHEDULES)
@given(warmup=st.integers(0, 50), total=st.integers(1, 200))
def test_the_rate_rises_to_its_peak_and_falls_from_there(schedule: str, warmup: int, total: int) -> None:
    factors = [learning_rate_factor(schedule, step, warmup, total) for step in range(1, total + 50)]
    assert all(0 < factor <= 1 for factor in factors)
    top = max(warmup, 1)
    assert factors[:top] == sorted(factors[:top])
    assert factors[top:] == sorted(factors[top:], reverse=True)
    if warmup:
        assert factors[warmup - 1] == 1


def test_noam_is_the_formula_of_the_paper_up_to_its_scale() -> None:
    dim, warmup = 512, 4000
    peak = dim**-0.5 * warmup**-0.5
    for step in (1, 100, 3999, 4000, 4001, 100_000):
        paper = dim**-0.5 * min(step**-0.5, step * warmup**-1.5)
        assert learning_rate_factor("noam", step, warmup, 0) == pytest.approx(paper / peak)


@pytest.mark.parametrize(("schedule", "halfway"), [("cosine", 0.505), ("linear", 0.505)])
def test_a_finite_schedule_ends_at_a_hundredth(schedule: str, halfway: float) -> None:
    assert learning_rate_factor(schedule, 60, 20, 100) == pytest.approx(halfway)
    assert learning_rate_factor(schedule, 100, 20, 100) == pytest.approx(0.01)
    assert learning_rate_factor(schedule, 500, 20, 100) == pytest.approx(0.01)


def test_an_unknown_schedule_names_the_nearest() -> None:
    with pytest.raises(UserError, match=r"optim\.schedule=cosin: .* Did you mean 'cosine'"):
        check_schedule("cosin")
