"""Dropout with cheap random numbers: what it drops, how often, and what it leaves."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from s2s.nn.dropout import Dropout, dropped


@settings(max_examples=15, deadline=None)
@given(shape=st.lists(st.integers(0, 7), min_size=0, max_size=4), p=st.floats(0.01, 0.99))
def test_every_value_is_dropped_or_divided_by_what_remains(shape: list[int], p: float) -> None:
    x = torch.randn(shape).abs() + 1.0
    found = dropped(x, p)
    kept = found != 0.0
    assert found.shape == x.shape
    torch.testing.assert_close(found[kept], x[kept] / (1.0 - p), rtol=2e-3, atol=0.0)


@pytest.mark.parametrize("p", [0.05, 0.1, 0.3, 0.5, 0.9])
def test_the_share_is_p_and_the_mean_is_kept(p: float) -> None:
    torch.manual_seed(1)
    size = 1_000_000
    found = dropped(torch.ones(size), p)
    deviation = (p * (1.0 - p) / size) ** 0.5
    assert abs(float((found == 0.0).double().mean()) - p) < 5.0 * deviation
    assert abs(float(found.double().mean()) - 1.0) < 5.0 * deviation / (1.0 - p)


def test_neighbouring_values_are_dropped_independently() -> None:
    """Four values are drawn from one number: every pattern of four is as frequent as chance has it."""
    torch.manual_seed(1)
    kept = (dropped(torch.ones(400_000), 0.5) != 0.0).view(-1, 4)
    counts = torch.bincount((kept * torch.tensor([1, 2, 4, 8])).sum(dim=1), minlength=16)
    expected = len(kept) / 16
    assert float(((counts - expected) ** 2 / expected).sum()) < 37.7  # chi-square of 15 degrees, p = 0.001


def test_the_gradient_goes_where_values_were_kept() -> None:
    torch.manual_seed(1)
    x = torch.randn(50, 8, dtype=torch.float64, requires_grad=True)
    found = dropped(x, 0.25)
    (gradient,) = torch.autograd.grad(found.sum(), x)
    torch.testing.assert_close(gradient, found.detach() / x.detach())


def test_a_seed_decides() -> None:
    def drawn(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return dropped(torch.ones(100), 0.5)

    assert torch.equal(drawn(3), drawn(3))
    assert not torch.equal(drawn(3), drawn(4))


def test_nothing_is_dropped_in_evaluation_or_at_zero_and_everything_at_one() -> None:
    x = torch.randn(20)
    assert torch.equal(Dropout(0.5).eval()(x), x)
    assert torch.equal(dropped(x, 0.0), x)
    assert not dropped(x, 1.0).any()
    with pytest.raises(ValueError, match=r"dropout probability"):
        Dropout(1.5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_it_keeps_the_type(dtype: torch.dtype) -> None:
    assert dropped(torch.ones(9, dtype=dtype), 0.5).dtype == dtype
