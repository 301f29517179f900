"""Attention to several sources against the equations of Libovický et al. 2018, one query at a time."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from s2s.errors import UserError
from s2s.nn.attention.attention import Attention
from s2s.nn.attention.config import AttentionConfig
from s2s.nn.attention.multi_source import MultiSource, SourcesConfig, memory_attention


def module(combination: str, num_sources: int = 2, seed: int = 0) -> MultiSource:
    torch.manual_seed(seed)
    made = MultiSource(8, 2, 0.0, None, SourcesConfig(num_sources, combination))
    return made.double().eval()


def looked(attention: Attention, query: Tensor, frames: Tensor) -> Tensor:
    """softmax(q Kᵀ / √d) V of a query (D,) and frames (T,D), head by head -> (D,); of no frames, the bias."""
    heads = attention.heads
    q, found = heads.query(query), []
    for h in range(heads.num_heads):
        own = slice(h * heads.head_dim, (h + 1) * heads.head_dim)
        keys, values = heads.key(frames)[:, own], heads.value(frames)[:, own]
        scores = keys @ q[own] / heads.head_dim**0.5
        weights = scores.exp() / scores.exp().sum()
        found.append(sum((w * v for w, v in zip(weights, values, strict=True)), q.new_zeros(heads.head_dim)))
    return heads.out(torch.cat(found))


def expected(attention: MultiSource, query: Tensor, sources: list[Tensor]) -> list[Tensor]:
    """What each look gives for a query (D,): those of serial sources are for the same query here."""
    each = [looked(own, query, frames) for own, frames in zip(attention.attentions, sources, strict=True)]
    if attention.config.combination == "serial":
        return each
    if attention.config.combination == "parallel":
        return [sum(each, torch.zeros_like(query))]
    assert attention.above is not None
    return [looked(attention.above, query, torch.stack(each))]


@pytest.mark.parametrize("combination", ["serial", "parallel", "hierarchical"])
@given(
    sizes=st.lists(st.tuples(st.integers(0, 4), st.integers(1, 4), st.integers(0, 3)), min_size=1, max_size=3),
    mixed=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(max_examples=10)
def test_each_look_is_that_of_the_equations_in_any_batch_and_order_of_frames(
    combination: str, sizes: list[tuple[int, int, int]], mixed: bool, seed: int
) -> None:
    attention = module(combination, 3, seed)
    generator = torch.Generator().manual_seed(seed)
    total = max(map(sum, sizes)) + 1
    frames = 1e3 * torch.ones(len(sizes), total, 8, dtype=torch.float64)  # of the padding
    numbers = torch.zeros(len(sizes), total, dtype=torch.long)
    shown = torch.zeros(len(sizes), 1, 1, total, dtype=torch.bool)
    own: list[list[Tensor]] = []
    for b, counts in enumerate(sizes):
        kinds = torch.tensor([i for i, count in enumerate(counts) for _ in range(count)])
        order = torch.randperm(len(kinds), generator=generator) if mixed else torch.arange(len(kinds))
        x = torch.randn(len(kinds), 8, generator=generator, dtype=torch.float64)
        frames[b, : len(kinds)], numbers[b, : len(kinds)], shown[b, ..., : len(kinds)] = x, kinds[order], True
        own.append([x[kinds[order] == i] for i in range(3)])
    query = torch.randn(len(sizes), 2, 8, generator=generator, dtype=torch.float64)
    cached = attention.project(frames, numbers)
    for need_weights in (False, True):
        looks = [look(query, cached, shown, need_weights, None) for look in attention.looks()]
        for b in range(len(sizes)):
            for u in range(2):
                for (found, weights), wanted in zip(looks, expected(attention, query[b, u], own[b]), strict=True):
                    torch.testing.assert_close(found[b, u], wanted)
                    assert (weights is not None) == need_weights


def test_weights_are_shared_out_among_the_sources() -> None:
    x, numbers = torch.randn(1, 5, 8, dtype=torch.float64), torch.tensor([[0, 0, 1, 1, 1]])
    query = torch.randn(1, 2, 8, dtype=torch.float64)
    for combination in ("parallel", "hierarchical"):
        attention = module(combination)
        (look,) = attention.looks()
        weights = look(query, attention.project(x, numbers), None, True, None)[1]
        assert weights is not None
        torch.testing.assert_close(weights.sum(dim=-1), torch.ones(1, 2, 2, dtype=torch.float64))
        if combination == "parallel":
            torch.testing.assert_close(weights[..., :2].sum(dim=-1), torch.full((1, 2, 2), 0.5, dtype=torch.float64))


def test_the_same_source_twice_with_the_same_weights_is_twice_that_source() -> None:
    attention = module("parallel")
    attention.attentions[1].load_state_dict(attention.attentions[0].state_dict())
    x, query = torch.randn(1, 3, 8, dtype=torch.float64), torch.randn(1, 2, 8, dtype=torch.float64)
    cached = attention.project(torch.cat((x, x), dim=1), torch.tensor([[0, 0, 0, 1, 1, 1]]))
    single = attention.attentions[0]
    once = single.over(query, single.project(x), None)[0]
    torch.testing.assert_close(attention.looks()[0](query, cached, None, False, None)[0], 2 * once)


def test_flat_is_one_attention_and_frames_that_are_there_twice_change_nothing() -> None:
    torch.manual_seed(0)
    attention = memory_attention(8, 2, 0.0, None, SourcesConfig(2, "flat"))
    assert isinstance(attention, Attention)
    attention = attention.double()
    x, query = torch.randn(1, 3, 8, dtype=torch.float64), torch.randn(1, 2, 8, dtype=torch.float64)
    once, twice = (attention.over(query, attention.project(each), None)[0] for each in (x, torch.cat((x, x), dim=1)))
    torch.testing.assert_close(once, twice)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_sources": 1}, r"num_sources=1: expected at least 2"),
        ({"combination": "paralel"}, r"combination=paralel: expected one of serial, .* Did you mean 'parallel'"),
    ],
)
def test_wrong_values_are_named(values: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        SourcesConfig(**values)  # type: ignore[arg-type]


def test_attention_that_stops_or_strides_is_for_one_source() -> None:
    for config in (AttentionConfig("monotonic"), AttentionConfig(reach="strided")):
        with pytest.raises(UserError, match=r"with several sources, expected another kind than monotonic"):
            MultiSource(8, 2, 0.0, config, SourcesConfig())
