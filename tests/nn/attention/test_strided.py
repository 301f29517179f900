from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from s2s.errors import UserError
from s2s.models.memory import Memory
from s2s.nn.attention.attention import Attention
from s2s.nn.attention.config import AttentionConfig
from s2s.nn.attention.scores import count_bias


def strided(num_heads: int, stride: int, seed: int = 0, **options: object) -> Attention:
    torch.manual_seed(seed)
    config = AttentionConfig(reach="strided", stride=stride, head_dim=3, **options)  # type: ignore[arg-type]
    return Attention(6, num_heads, config=config, over_memory=True).double()


@torch.no_grad()
def plain(layer: Attention, stride: int, x: Tensor, memory: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """softmax over the frames j of (j - h) mod stride = 0 that count, one head and one query at a time."""
    heads, (B, U, _), T, H = layer.heads, x.shape, memory.size(1), layer.num_heads
    query, key, value = heads.query(x), heads.key(memory), heads.value(memory)
    result, weights = torch.zeros(B, U, 3 * H).double(), torch.zeros(B, H, U, T).double()
    for b, u, h in product(range(B), range(U), range(H)):
        part = slice(3 * h, 3 * h + 3)
        frames = [j for j in range(T) if (j - h) % stride == 0 and counts[b, j] > 0]
        terms = [
            float(counts[b, j]) * math.exp(float(query[b, u, part] @ key[b, j, part]) / math.sqrt(3)) for j in frames
        ]
        for j, term in zip(frames, terms, strict=True):
            weights[b, h, u, j] = term / sum(terms)
            result[b, u, part] += weights[b, h, u, j] * value[b, j, part]
    return heads.out(result), weights


@given(
    lengths=st.lists(st.integers(1, 11), min_size=1, max_size=3),
    num_heads=st.integers(1, 5),
    stride=st.integers(1, 5),
    counted=st.booleans(),
)
@settings(max_examples=15)
def test_a_head_sees_the_frames_of_its_equation(lengths: list[int], num_heads: int, stride: int, counted: bool) -> None:
    stride = min(stride, num_heads)
    layer, T = strided(num_heads, stride), max(lengths)
    x, memory = torch.randn(len(lengths), 2, 6).double(), torch.randn(len(lengths), T, 6).double()
    counts = (torch.arange(T) < torch.tensor(lengths)[:, None]).long()
    counts = counts * torch.randint(1, 5, counts.shape) if counted else counts > 0
    expected, expected_weights = plain(layer, stride, x, memory, counts)
    bias = count_bias(counts, x)[:, None, None]
    result, weights = layer.over(x, layer.project(memory), bias, need_weights=True)
    torch.testing.assert_close(result, expected)
    assert weights is not None
    torch.testing.assert_close(weights, expected_weights)
    assert torch.equal(weights == 0, expected_weights == 0)
    torch.testing.assert_close(layer.over(x, layer.project(memory), bias)[0], expected)


def test_all_heads_together_see_all_frames_and_each_keeps_only_its_own() -> None:
    layer = strided(4, 4)
    kept = layer.project(torch.randn(2, 14, 6).double())
    assert [each.shape for each in kept] == [(2, 4, 4, 3)] * 2
    assert sum(each.untyped_storage().nbytes() for each in kept) == 2 * 2 * 4 * 4 * 3 * 8  # no view of all frames
    bias = torch.ones(2, 1, 1, 14, dtype=torch.bool)
    weights = layer.over(torch.randn(2, 1, 6).double(), kept, bias, need_weights=True)[1]
    assert weights is not None
    assert (weights.sum(1) > 0).all()


@pytest.mark.parametrize("kind", ["softmax", "relaxed", "sparsemax", "entmax15", "entmax", "rectified"])
def test_heads_without_a_frame_give_zeros_and_finite_gradients(kind: str) -> None:
    layer = strided(4, 4, kind=kind)
    x, memory = torch.randn(2, 3, 6).double().requires_grad_(), torch.randn(2, 6, 6).double().requires_grad_()
    bias = torch.arange(6)[None, None, None] < torch.tensor([6, 2])[:, None, None, None]
    for need_weights in (False, True):
        layer.train(need_weights)
        result, weights = layer.over(x, layer.project(memory), bias, need_weights)
        result.sum().backward()
        assert result.isfinite().all()
        assert x.grad is not None
        assert memory.grad is not None
        assert x.grad.isfinite().all()
        assert memory.grad.isfinite().all()
        assert not memory.grad[1, 2:].any()
    assert weights is not None
    assert not weights[1, 2:].any()
    with torch.no_grad():
        changed = memory.clone()
        changed[1, 2:] = 1e4
        ours, theirs = (layer.eval().over(x, layer.project(each), bias)[0] for each in (memory, changed))
        torch.testing.assert_close(ours, theirs)


def test_what_was_kept_may_be_wider_than_the_frames_that_are_left() -> None:
    layer, states = strided(3, 3), torch.randn(2, 11, 6).double()
    memory = Memory(states, torch.tensor([11, 4]), (layer.project(states),))
    x, short = torch.randn(1, 2, 6).double(), memory.rows(1, 2)
    assert short.keys_values is not None
    bias = short.frame_counts[:, None, None]
    found = layer.over(x, short.keys_values[0], bias, need_weights=True)
    alone = layer.over(x, layer.project(states[1:, :4]), bias, need_weights=True)
    for ours, theirs in zip(found, alone, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_stride_of_one_is_attention_to_all_frames() -> None:
    layer = strided(2, 1)
    full = Attention(6, 2, config=AttentionConfig(head_dim=3), over_memory=True).double()
    full.load_state_dict(layer.state_dict())
    x, memory, bias = torch.randn(2, 3, 6).double(), torch.randn(2, 5, 6).double(), torch.ones(2, 1, 1, 5) > 0
    ours, theirs = (each.over(x, each.project(memory), bias)[0] for each in (layer, full))
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stride": 3}, r"stride=3: .* at most num_heads=2"),
        ({"stride": 2, "kv_heads": 1}, r"reach=strided: .* without kv_heads"),
        ({"stride": 2, "projection": "keys_only"}, r"reach=strided: .* projection=multi_head"),
    ],
)
def test_what_gives_heads_no_frames_of_their_own_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Attention(6, 2, config=AttentionConfig(reach="strided", **options), over_memory=True)  # type: ignore[arg-type]


def test_it_is_for_a_memory_of_which_one_knows_the_frames() -> None:
    with pytest.raises(UserError, match=r"reach=strided: is for cross-attention"):
        Attention(6, 2, config=AttentionConfig(reach="strided", stride=2))
    layer = strided(2, 2)
    with pytest.raises(ValueError, match=r"a bias is needed"):
        layer.over(torch.randn(1, 1, 6).double(), layer.project(torch.randn(1, 3, 6).double()), None)
