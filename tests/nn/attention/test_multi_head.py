from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from s2s.nn.attention.attention import Attention
from s2s.nn.attention.config import AttentionConfig


def attention(model_dim: int, seed: int = 0, **options: int | bool) -> Attention:
    torch.manual_seed(seed)
    return Attention(model_dim, 2, config=AttentionConfig(**options)).double()  # type: ignore[arg-type]


def plain(layer: Attention, x: Tensor, projections: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Attention of x (U,D) to itself, one head and one query at a time; `projections` (d,d) of q, k and v come last."""
    heads, d = layer.heads, layer.heads.head_dim
    group = heads.num_heads // heads.kv_heads
    result = torch.zeros(len(x), heads.num_heads * d).double()
    for h in range(heads.num_heads):
        own, of_group = slice(h * d, h * d + d), slice(h // group * d, h // group * d + d)
        query, key, value = (
            each(x)[:, part] @ last.T
            for each, part, last in zip(
                (heads.query, heads.key, heads.value), (own, of_group, of_group), projections, strict=True
            )
        )
        for u in range(len(x)):
            scores = torch.stack([query[u] @ each / math.sqrt(d) for each in key])
            result[u, own] = sum(weight * each for weight, each in zip(scores.softmax(0), value, strict=True))
    return heads.out(result)


@given(
    model_dim=st.integers(1, 9),
    groups=st.integers(1, 3),
    of_group=st.integers(1, 3),
    head_dim=st.integers(1, 6),
    seed=st.integers(0, 1000),
)
@settings(max_examples=15)
def test_heads_have_any_number_and_size_whatever_the_width(
    model_dim: int, groups: int, of_group: int, head_dim: int, seed: int
) -> None:
    layer = attention(model_dim, seed, num_heads=groups * of_group, kv_heads=groups, head_dim=head_dim)
    x, identity = torch.randn(4, model_dim).double(), torch.eye(head_dim).double()
    assert layer.heads.query.weight.shape == (groups * of_group * head_dim, model_dim)
    assert layer.heads.cached_shapes() == [tuple(each.shape[1::2]) for each in layer.project(x[None])]
    torch.testing.assert_close(layer.within(x[None])[0], plain(layer, x, (identity, identity, identity)))


@pytest.mark.parametrize("kv_heads", [1, 4])
def test_knocking_projects_queries_keys_and_values_of_all_heads_alike(kv_heads: int) -> None:
    layer = attention(6, num_heads=4, head_dim=3, kv_heads=kv_heads, knocking=True)
    knock = layer.heads.knock
    assert knock is not None
    shared = (knock.query.weight, knock.key.weight, knock.value.weight)
    assert [each.shape for each in shared] == [(3, 3)] * 3
    for weight in shared:
        nn.init.normal_(weight)
    x = torch.randn(5, 6).double()
    torch.testing.assert_close(layer.within(x[None])[0], plain(layer, x, shared))


def test_knocking_begins_as_attention_without_it() -> None:
    layer, without = attention(6, num_heads=2, knocking=True), attention(6, seed=1, num_heads=2)
    without.load_state_dict({k: v for k, v in layer.state_dict().items() if ".knock." not in k})
    x = torch.randn(2, 5, 6).double()
    torch.testing.assert_close(layer.within(x), without.within(x))


def test_knocking_folds_into_the_weights_of_attention_without_it() -> None:
    layer, without = attention(6, num_heads=2, knocking=True), attention(6, num_heads=2)
    state, folded = layer.state_dict(), {}
    for name in ("query", "key", "value"):
        shared = nn.init.normal_(state.pop(f"heads.knock.{name}.weight"))
        for part in ("weight", "bias"):
            of_heads = state[f"heads.{name}.{part}"].unflatten(0, (2, 3))
            folded[f"heads.{name}.{part}"] = torch.einsum("ij,hj...->hi...", shared, of_heads).flatten(0, 1)
    without.load_state_dict({**state, **folded})
    x = torch.randn(2, 5, 6).double()
    torch.testing.assert_close(layer.within(x), without.within(x))
