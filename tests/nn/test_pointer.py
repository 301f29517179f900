from __future__ import annotations

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from s2s.nn.lengths import valid_mask
from s2s.nn.pointer import Pointer


@given(
    lengths=st.lists(st.integers(1, 5), min_size=1, max_size=3), num_queries=st.integers(1, 3), seed=st.integers(0, 99)
)
@settings(max_examples=15)
def test_the_numbers_are_those_of_the_equations(lengths: list[int], num_queries: int, seed: int) -> None:
    torch.manual_seed(seed)
    pointer = Pointer(6, 4).double()
    states, x = torch.randn(len(lengths), max(lengths), 4).double(), torch.randn(len(lengths), num_queries, 6).double()
    with torch.no_grad():
        found = pointer(x, pointer.project(states), valid_mask(torch.tensor(lengths), max(lengths)))
    weight = {name.removeprefix("attention."): value.tolist() for name, value in pointer.named_parameters()}

    def times(matrix: list[list[float]], vector: list[float]) -> list[float]:
        return [sum(w * value for w, value in zip(row, vector, strict=True)) for row in matrix]

    for b, length in enumerate(lengths):
        for i in range(num_queries):
            second = times(weight["query.weight"], x[b, i].tolist())
            u = []
            for j in range(length):
                first = times(weight["key.weight"], states[b, j].tolist())
                hidden = [math.tanh(f + s + c) for f, s, c in zip(first, second, weight["key.bias"], strict=True)]
                u += times(weight["score.weight"], hidden)
            total = math.log(sum(map(math.exp, u)))
            torch.testing.assert_close(found[b, i, :length], torch.tensor([each - total for each in u]).double())
            assert bool((found[b, i, length:] == -math.inf).all())


def test_gradients_are_those_of_small_differences() -> None:
    torch.manual_seed(0)
    pointer = Pointer(3, 2).double()
    states, x = torch.randn(1, 3, 2).double().requires_grad_(), torch.randn(1, 2, 3).double().requires_grad_()
    shown = torch.tensor([[True, True, False]])
    assert torch.autograd.gradcheck(lambda s, q: pointer(q, pointer.project(s), shown)[..., :2], (states, x))
