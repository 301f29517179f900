"""Linear recurrences against a loop."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from s2s.nn.attention.recurrence import recurrence, recurrence_from_the_end


def inputs(size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Factors from 0 to 1, some of them 0 or 1, and what is added (3,size)."""
    generator = torch.Generator().manual_seed(seed)
    decay, x = (torch.rand(3, size, generator=generator, dtype=torch.float64) for _ in range(2))
    kind = torch.randint(4, (3, size), generator=generator)
    return decay.masked_fill(kind == 0, 0.0).masked_fill(kind == 1, 1.0), x


def loop(decay: Tensor, x: Tensor) -> Tensor:
    y, result = torch.zeros(len(x)).double(), torch.zeros_like(x)
    for j in range(x.size(1)):
        y = decay[:, j] * y + x[:, j]
        result[:, j] = y
    return result


@given(size=st.integers(1, 40), seed=st.integers(0, 99))
@settings(max_examples=15)
def test_all_steps_at_once_give_what_one_after_the_other_gives(size: int, seed: int) -> None:
    decay, x = inputs(size, seed)
    torch.testing.assert_close(recurrence(decay, x), loop(decay, x))
    after = torch.cat((decay[:, 1:], decay[:, :1]), dim=1)  # the first of what goes on from nothing has no effect
    expected = loop(after.flip(1), x.flip(1)).flip(1)
    torch.testing.assert_close(recurrence_from_the_end(decay, x), expected)


@given(size=st.integers(1, 9), seed=st.integers(0, 99))
@settings(max_examples=4)
def test_gradients_are_those_of_small_differences(size: int, seed: int) -> None:
    given = [each.requires_grad_() for each in inputs(size, seed)]
    assert torch.autograd.gradcheck(recurrence, given)
    assert torch.autograd.gradcheck(recurrence_from_the_end, given)
    assert torch.autograd.gradgradcheck(recurrence, given)
