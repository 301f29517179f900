"""Weighted grouped-query attention equals its equation and begins as the mean."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from s2s.errors import UserError
from s2s.models.convert import grouped
from s2s.nn.attention.attention import Attention
from s2s.nn.attention.config import AttentionConfig


def attention(kv_heads: int, num_heads: int = 4, **options: Any) -> Attention:
    config = AttentionConfig(projection="weighted_grouped", kv_heads=kv_heads, head_dim=3, **options)
    return Attention(8, num_heads, config=config).double().eval()


@given(sizes=st.sampled_from([(4, 1), (4, 2), (4, 4), (6, 3)]), frames=st.integers(1, 6), seed=st.integers(0, 99))
@settings(max_examples=12)
def test_keys_and_values_of_a_group_are_weighted_sums_of_those_of_its_heads(
    sizes: tuple[int, int], frames: int, seed: int
) -> None:
    torch.manual_seed(seed)
    num_heads, kv_heads = sizes
    layer, x, size = attention(kv_heads, num_heads), torch.randn(frames, 8).double(), num_heads // kv_heads
    heads: Any = layer.heads
    for shares in (heads.key.shares, heads.value.shares):
        torch.nn.init.normal_(shares)
    found = torch.zeros(frames, 3 * num_heads).double()
    for h in range(num_heads):
        keys, values = torch.zeros(frames, 3).double(), torch.zeros(frames, 3).double()
        for i in range(size):
            rows = slice(3 * (h // size * size + i), 3 * (h // size * size + i) + 3)
            keys += heads.key.shares[h // size, i] * (x @ heads.key.weight[rows].T + heads.key.bias[rows])
            values += heads.value.shares[h // size, i] * (x @ heads.value.weight[rows].T + heads.value.bias[rows])
        query = heads.query(x)[:, 3 * h : 3 * h + 3]
        for u in range(frames):
            weights = torch.stack([query[u] @ keys[t] / math.sqrt(3) for t in range(frames)]).softmax(0)
            found[u, 3 * h : 3 * h + 3] = sum(weights[t] * values[t] for t in range(frames))  # type: ignore[assignment]
    torch.testing.assert_close(layer.within(x.unsqueeze(0))[0], heads.out(found))


@pytest.mark.parametrize("knocking", [False, True])
def test_it_begins_as_grouped_query_attention_by_the_mean(knocking: bool) -> None:
    torch.manual_seed(0)
    ours = attention(2, knocking=knocking)
    theirs = Attention(8, 4, config=AttentionConfig(kv_heads=2, head_dim=3, knocking=knocking)).double().eval()
    state = {key: value for key, value in ours.heads.state_dict().items() if not key.endswith("shares")}
    for key in ("key.weight", "key.bias", "value.weight", "value.bias"):
        state[key] = grouped(state[key], 2, 3)
    theirs.heads.load_state_dict(state)
    x = torch.randn(2, 5, 8).double()
    torch.testing.assert_close(ours.within(x), theirs.within(x))
    assert ours.heads.cached_shapes() == theirs.heads.cached_shapes() == [(2, 3), (2, 3)]
    assert [kept.shape[1::2] for kept in ours.project(x)] == [(2, 3), (2, 3)]


def test_the_number_of_groups_is_needed_and_divides_that_of_heads() -> None:
    with pytest.raises(UserError, match=r"projection=weighted_grouped: needs kv_heads"):
        Attention(8, 4, config=AttentionConfig(projection="weighted_grouped"))
    with pytest.raises(UserError, match=r"kv_heads=3: num_heads=4 is no multiple"):
        attention(3)
