"""Slim attention equals its equation, however many queries there are, and keeps half."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from s2s.errors import UserError
from s2s.nn.attention.attention import Attention
from s2s.nn.attention.config import AttentionConfig
from s2s.nn.attention.keys_only import KeysOnly
from s2s.nn.lengths import valid_mask

KINDS: list[dict[str, Any]] = [
    {},
    {"kind": "relaxed", "gamma": 0.3, "relax_always": True},
    {"kind": "sparsemax"},
    {"kind": "entmax15"},
    {"kind": "entmax"},
]


def attention(num_heads: int = 4, **options: Any) -> Attention:
    layer = Attention(8, num_heads, config=AttentionConfig(projection="keys_only", **options), over_memory=True)
    assert isinstance(layer.heads, KeysOnly)
    torch.nn.init.normal_(layer.heads.value_bias)
    return layer.double().eval()


@given(
    num_heads=st.sampled_from([1, 2, 4, 8]),
    queries=st.integers(1, 12),
    frames=st.integers(1, 6),
    need_weights=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(max_examples=15)
def test_values_are_a_linear_function_of_the_keys_of_all_heads(
    num_heads: int, queries: int, frames: int, need_weights: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    layer, x, memory = attention(num_heads), torch.randn(queries, 8).double(), torch.randn(frames, 8).double()
    heads, size = layer.heads, 8 // num_heads
    assert isinstance(heads, KeysOnly)
    keys, query = heads.key(memory), heads.query(x)
    values = keys @ heads.value.weight.T + heads.value_bias.flatten()
    found = torch.zeros(queries, 8).double()
    for h in range(num_heads):
        own = slice(size * h, size * h + size)
        for u in range(queries):
            scores = [query[u, own] @ keys[t, own] / math.sqrt(size) for t in range(frames)]
            weights = torch.stack(scores).softmax(0)
            found[u, own] = sum(weights[t] * values[t, own] for t in range(frames))  # type: ignore[assignment]
    result, _ = layer.over(x.unsqueeze(0), layer.project(memory.unsqueeze(0)), None, need_weights)
    torch.testing.assert_close(result[0], heads.out(found))


@pytest.mark.parametrize("options", KINDS)
def test_one_query_gives_what_many_give(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    layer, x = attention(**options), torch.randn(2, 20, 8).double()
    cached = layer.project(torch.randn(2, 6, 8).double())
    mask = valid_mask(torch.tensor([6, 3]), 6)[:, None, None]
    keys, many = layer.heads.keys_values(*cached, num_queries=20)
    few = layer.heads.keys_values(*cached, num_queries=1)[1]
    assert many.shape == keys.shape == (2, 4, 6, 2)
    assert few.shape == (2, 1, 6, 8)
    together, weights = layer.over(x, cached, mask, need_weights=True)
    torch.testing.assert_close(layer.over(x, cached, mask)[0], together)
    for u in range(20):
        alone, own = layer.over(x[:, u : u + 1], cached, mask, need_weights=True)
        torch.testing.assert_close(alone, together[:, u : u + 1])
        torch.testing.assert_close(own, weights[:, :, u : u + 1])  # type: ignore[index]
        torch.testing.assert_close(layer.over(x[:, u : u + 1], cached, mask)[0], alone)


def test_half_of_what_multi_head_attention_keeps_is_kept() -> None:
    layer = attention()
    (keys,) = layer.project(torch.randn(2, 6, 8).double())
    assert keys.shape == (2, 1, 6, 8)
    assert layer.heads.cached_shapes() == [(1, 8)]
    assert sum(heads * dim for heads, dim in Attention(8, 4).heads.cached_shapes()) == 16


def test_a_row_that_attends_to_nothing_is_finite_and_so_are_its_gradients() -> None:
    layer, x = attention(), torch.randn(1, 2, 8).double().requires_grad_()
    result, _ = layer.over(x, layer.project(torch.randn(1, 3, 8).double()), torch.zeros(1, 1, 1, 3, dtype=torch.bool))
    result.sum().backward()
    assert result.isfinite().all()
    assert x.grad is not None
    assert all(p.grad is None or p.grad.isfinite().all() for p in (x, *layer.parameters()))


@pytest.mark.parametrize(
    ("options", "positions", "message"),
    [
        ({"head_dim": 4}, "none", r"num_heads=4 of head_dim=4 are not as wide as the model, model_dim=8"),
        ({}, "rotary", r"positions=rotary: .*keys_only"),
        ({"kind": "rectified"}, "none", r"projection=keys_only: kind=rectified"),
        ({"knocking": True}, "none", r"knocking=True: has no effect with projection=keys_only"),
        ({"kv_heads": 2}, "none", r"kv_heads=2: has no effect with projection=keys_only"),
    ],
)
def test_keys_that_do_not_tell_values_are_refused(options: dict[str, Any], positions: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Attention(8, 4, config=AttentionConfig(projection="keys_only", **options), positions=positions)
