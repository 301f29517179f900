from __future__ import annotations

import pytest
import torch

from s2s.errors import UserError
from s2s.nn.attention.attention import Attention
from s2s.nn.attention.config import AttentionConfig
from s2s.nn.attention.head_mask import HeadMask


def masked(layer: HeadMask, num_heads: int = 5) -> list[int]:
    """The heads that are zero; all others must be as they were, of all utterances and queries."""
    results = torch.randn(2, num_heads, 3, 4, generator=torch.Generator().manual_seed(0))
    found = layer(torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(0)), results)
    zero = [h for h in range(num_heads) if not found[:, h].any()]
    assert all(torch.equal(found[:, h], results[:, h]) for h in range(num_heads) if h not in zero)
    return zero


@pytest.mark.parametrize("masked_heads", [1, 3, 4])
def test_in_training_every_batch_loses_so_many_heads_and_each_head_as_often(masked_heads: int) -> None:
    torch.manual_seed(0)
    layer, batches = HeadMask(5, masked_heads), 1000
    drawn = [masked(layer) for _ in range(batches)]
    assert {len(heads) for heads in drawn} == {masked_heads}
    expected = batches * masked_heads / 5
    for head in range(5):
        assert abs(sum(head in heads for heads in drawn) - expected) < 75  # five standard deviations at most


def test_the_draw_is_that_of_the_seed_of_the_batch() -> None:
    layer, drawn = HeadMask(5, 2), []
    for seed in (3, 4, 3, 5, 6):
        torch.manual_seed(seed)
        drawn.append(masked(layer))
    assert drawn[0] == drawn[2]
    assert len(set(map(tuple, drawn))) > 1


def test_after_training_no_head_is_masked() -> None:
    assert masked(HeadMask(5, 4).eval()) == []


def test_a_masked_head_takes_no_part_in_the_output_and_learns_nothing() -> None:
    torch.manual_seed(0)
    layer = Attention(8, 4, config=AttentionConfig(masked_heads=3)).double()
    layer.within(torch.randn(2, 5, 8).double()).square().sum().backward()
    gradient = layer.heads.value.weight.grad
    assert gradient is not None
    assert sum(bool(rows.any()) for rows in gradient.split(2)) == 1
    assert sum(bool(rows.any()) for rows in layer.heads.query.weight.grad.split(2)) == 1  # type: ignore[union-attr]


def test_at_least_one_head_must_be_left() -> None:
    with pytest.raises(UserError, match=r"masked_heads=2: expected fewer than the num_heads=2"):
        Attention(8, 2, config=AttentionConfig(masked_heads=2))
