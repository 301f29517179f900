from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import toy_memory

from s2s.errors import UserError
from s2s.nn.attention.additive import AdditiveAttention
from s2s.nn.lengths import valid_mask


def attention(num_heads: int, weight_feedback: bool, seed: int = 0) -> AdditiveAttention:
    torch.manual_seed(seed)
    return AdditiveAttention(6, 8, num_heads, weight_feedback=weight_feedback).double().eval()


@given(
    lengths=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    num_queries=st.integers(1, 3),
    num_heads=st.sampled_from([1, 2, 4]),
    weight_feedback=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(max_examples=15)
def test_the_numbers_are_those_of_the_equations(
    lengths: list[int], num_queries: int, num_heads: int, weight_feedback: bool, seed: int
) -> None:
    layer, memory = attention(num_heads, weight_feedback, seed), toy_memory(lengths, seed, dim=8)
    x = torch.randn(len(lengths), num_queries, 6).double()
    attended = torch.rand(len(lengths), num_heads, num_queries, max(lengths)).double()
    mask = valid_mask(memory.lengths, max(lengths))[:, None, None]
    with torch.no_grad():
        found, weights = layer.over(x, layer.project(memory.states), mask, attended)
    weight = {name: parameter.tolist() for name, parameter in layer.named_parameters()}
    for b, length in enumerate(lengths):
        for u in range(num_queries):
            scores: list[list[float]] = [[] for _ in range(num_heads)]
            for t in range(length):
                h = memory.states[b, t].tolist()
                hidden = []
                for d in range(6):
                    total = weight["key.bias"][d]
                    total += sum(
                        w * value for w, value in zip(weight["query.weight"][d], x[b, u].tolist(), strict=True)
                    )
                    total += sum(w * value for w, value in zip(weight["key.weight"][d], h, strict=True))
                    for head in range(num_heads if weight_feedback else 0):
                        v = weight["inverse_fertility.weight"][head]
                        fertility = 1 / (1 + math.exp(-sum(w * value for w, value in zip(v, h, strict=True))))
                        total += weight["feedback.weight"][d][head] * fertility * float(attended[b, head, u, t])
                    hidden.append(math.tanh(total))
                for head in range(num_heads):
                    v = weight["score.weight"][head]
                    scores[head].append(sum(w * value for w, value in zip(v, hidden, strict=True)))
            for head in range(num_heads):
                all_of_them = sum(map(math.exp, scores[head]))
                alpha = [math.exp(score) / all_of_them for score in scores[head]]
                assert weights[b, head, u].tolist() == pytest.approx(alpha + [0.0] * (max(lengths) - length), abs=1e-12)
                size = 8 // num_heads
                for d in range(head * size, (head + 1) * size):
                    context = sum(a * float(memory.states[b, t, d]) for t, a in enumerate(alpha))
                    assert float(found[b, u, d]) == pytest.approx(context, abs=1e-12)


@pytest.mark.parametrize("weight_feedback", [False, True])
def test_gradients_are_those_of_small_differences(weight_feedback: bool) -> None:
    layer = attention(2, weight_feedback)
    mask = valid_mask(torch.tensor([4, 2]), 4)[:, None, None]

    def run(x: torch.Tensor, states: torch.Tensor, attended: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        return layer.over(x, layer.project(states), mask, attended)[0]

    inputs = [torch.randn(2, 3, 6), torch.randn(2, 4, 8), torch.rand(2, 2, 3, 4)]
    given_tensors = [x.double().requires_grad_() for x in inputs]
    assert torch.autograd.gradcheck(run, (*given_tensors, *layer.parameters()), fast_mode=True)


def test_where_no_frame_counts_the_weights_are_zero_and_nothing_else_changes() -> None:
    layer, memory = attention(2, True), toy_memory([3, 3], dim=8)
    x, attended = torch.randn(2, 1, 6).double(), torch.zeros(2, 2, 1, 3).double()
    nothing = torch.tensor([True, False])[:, None, None, None].expand(2, 1, 1, 3)
    found, weights = layer.over(x, layer.project(memory.states), nothing, attended)
    assert not weights[1].any()
    assert not found[1].any()
    alone = layer.over(x[:1], layer.project(memory.states[:1]), None, attended[:1])
    torch.testing.assert_close(found[:1], alone[0])


def test_heads_that_do_not_divide_the_memory_are_refused() -> None:
    with pytest.raises(UserError, match=r"num_heads=3: the memory's 8 dimensions do not divide"):
        AdditiveAttention(6, 8, 3)
