from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from s2s.errors import UserError
from s2s.nn.attention.attention import Attention
from s2s.nn.attention.config import AttentionConfig
from s2s.nn.attention.mixture import Mixture


def softmax(scores: list[float]) -> list[float]:
    total = sum(math.exp(score) for score in scores)
    return [math.exp(score) / total for score in scores]


def plain_weights(rows: list[list[float]], x: list[float], active: int, shared: int, num_heads: int) -> list[float]:
    """Equations 5 and 6 of the paper for one token, and what weights of no preference are multiplied by to be one."""
    scores = [sum(w * each for w, each in zip(row, x, strict=True)) for row in rows]
    of_shared, of_routed = scores[:shared], scores[shared:num_heads]
    alpha = [2 * each for each in softmax(scores[num_heads:])] if shared else [0.0, 1.0]
    chosen = sorted(range(len(of_routed)), key=lambda i: of_routed[i])[-active:]
    weights = [alpha[0] * shared * each for each in softmax(of_shared)] if shared else []
    return weights + [
        alpha[1] * len(of_routed) * each if i in chosen else 0.0 for i, each in enumerate(softmax(of_routed))
    ]


@given(shared=st.integers(0, 3), active=st.integers(1, 3), others=st.integers(0, 3), seed=st.integers(0, 1000))
@settings(max_examples=15)
def test_weights_are_those_of_the_equations(shared: int, active: int, others: int, seed: int) -> None:
    torch.manual_seed(seed)
    num_heads = shared + active + others
    layer, x = Mixture(6, num_heads, active, shared).double(), 3 * torch.randn(2, 4, 6).double()
    found = layer.weights(x)
    for b in range(2):
        for u in range(4):
            expected = plain_weights(layer.router.weight.tolist(), x[b, u].tolist(), active, shared, num_heads)
            torch.testing.assert_close(found[b, u], torch.tensor(expected).double())
            assert int((found[b, u] != 0).sum()) == shared + active


def test_the_output_is_the_weighted_sum_of_the_heads() -> None:
    torch.manual_seed(0)
    layer = Attention(8, 4, config=AttentionConfig(active_heads=1, shared_heads=1)).double()
    heads, x = layer.heads, torch.randn(2, 5, 8).double()
    weights = layer.gates[0].weights(x)
    expected = heads.out.bias.expand(2, 5, 8).clone()
    for h in range(4):
        part = slice(2 * h, 2 * h + 2)
        query, key, value = (each(x)[..., part] for each in (heads.query, heads.key, heads.value))
        result = (query @ key.transpose(1, 2) / math.sqrt(2)).softmax(-1) @ value
        expected += weights[..., h : h + 1] * (result @ heads.out.weight[:, part].T)
    torch.testing.assert_close(layer.within(x), expected)


def test_a_head_that_is_not_chosen_takes_no_part_and_the_router_learns_of_those_that_are() -> None:
    torch.manual_seed(0)
    layer = Mixture(6, 5, active_heads=1, shared_heads=2).double()
    results = torch.randn(1, 5, 1, 4).double().requires_grad_()
    found: Tensor = layer(torch.randn(1, 1, 6).double(), results)
    found.square().sum().backward()
    gradient = results.grad
    assert gradient is not None
    used = [h for h in range(5) if gradient[0, h].any()]
    assert used[:2] == [0, 1]
    assert len(used) == 3
    assert all(not found[0, h].any() for h in range(5) if h not in used)
    assert layer.router.weight.grad is not None
    assert layer.router.weight.grad.any(dim=1).all()


@pytest.mark.parametrize("shared", [0, 2])
def test_a_router_without_preference_leaves_heads_as_they_were(shared: int) -> None:
    layer, results = Mixture(6, 5, active_heads=2, shared_heads=shared), torch.randn(2, 5, 3, 4)
    torch.nn.init.zeros_(layer.router.weight)
    found = layer(torch.randn(2, 3, 6), results)
    used = found.flatten(2).any(-1)
    assert used.sum(1).tolist() == [2 + shared] * 2
    torch.testing.assert_close(found[used], results[used])


def test_no_more_heads_are_used_than_there_are() -> None:
    with pytest.raises(UserError, match=r"active_heads=3: with shared_heads=2 these are more than the num_heads=4"):
        Attention(8, 4, config=AttentionConfig(active_heads=3, shared_heads=2))
