from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from s2s.audio.augment import SpecAugment, SpecAugmentConfig
from s2s.errors import UserError

OFF = SpecAugmentConfig(num_freq_masks=0, num_time_masks=0)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def masked(config: SpecAugmentConfig, lengths: list[int], num_bins: int = 80, seed: int = 0) -> Tensor:
    """True (B,S,F) where features of ones became zero."""
    ones = torch.ones(len(lengths), max(lengths), num_bins)
    return SpecAugment(config)(ones, torch.tensor(lengths), seeded(seed)) == 0


@settings(deadline=None, max_examples=30)
@given(
    lengths=st.lists(st.integers(0, 300), min_size=1, max_size=5),
    width=st.integers(0, 60),
    ratio=st.floats(0, 1),
    seed=st.integers(0, 10**6),
)
def test_a_time_mask_is_one_run_within_its_widths_and_the_utterance(
    lengths: list[int], width: int, ratio: float, seed: int
) -> None:
    config = SpecAugmentConfig(0, 0, num_time_masks=1, time_mask_width=width, time_mask_ratio=ratio)
    for mask, length in zip(masked(config, lengths, 4, seed), lengths, strict=True):
        frames = mask.all(dim=1)
        assert torch.equal(mask, frames[:, None].expand_as(mask))
        assert int(frames.sum()) <= min(width, ratio * length)
        assert not frames[length:].any()
        assert int(frames.int().diff(prepend=torch.zeros(1)).clamp(min=0).sum()) <= 1


@settings(deadline=None, max_examples=30)
@given(num_bins=st.integers(1, 80), width=st.integers(0, 100), seed=st.integers(0, 10**6))
def test_a_frequency_mask_is_one_run_within_its_width(num_bins: int, width: int, seed: int) -> None:
    config = SpecAugmentConfig(1, width, num_time_masks=0)
    mask = masked(config, [20, 10], num_bins, seed)
    assert not mask[1, 10:].any()
    for bins in (mask[0, 0], mask[1, 0]):
        assert int(bins.sum()) <= min(width, num_bins)
        assert int(bins.int().diff(prepend=torch.zeros(1)).clamp(min=0).sum()) <= 1
    assert torch.equal(mask[0], mask[0, :1].expand_as(mask[0]))


def test_the_share_masked_is_half_the_width_for_one_mask() -> None:
    freq = masked(SpecAugmentConfig(1, 27, num_time_masks=0), [5] * 4000).float().mean()
    assert float(freq) == pytest.approx(27 / 2 / 80, rel=0.05)
    config = SpecAugmentConfig(0, 0, 1, time_mask_width=100, time_mask_ratio=0.2)
    time = masked(config, [200] * 4000, 1).float().mean()
    assert float(time) == pytest.approx(0.2 / 2, rel=0.05)


def test_the_widest_masks_and_both_ends_occur() -> None:
    mask = masked(SpecAugmentConfig(0, 0, 1, 4, 1.0), [20] * 2000, 1)[..., 0]
    assert set(mask.sum(dim=1).tolist()) == {0, 1, 2, 3, 4}
    assert mask[:, 0].any()
    assert mask[:, -1].any()


def test_masks_differ_between_utterances() -> None:
    mask = masked(SpecAugmentConfig(), [300] * 8)
    assert len({tuple(row.flatten().tolist()) for row in mask}) == 8


@pytest.mark.parametrize("time_warp", [0, 10])
def test_the_seed_decides_everything(time_warp: int) -> None:
    features, lengths = torch.randn(4, 200, 80, generator=seeded(1)), torch.tensor([200, 150, 90, 3])
    augment = SpecAugment(SpecAugmentConfig(time_warp=time_warp))
    once, again, other = (augment(features, lengths, seeded(seed)) for seed in (5, 5, 6))
    assert torch.equal(once, again)
    assert not torch.equal(once, other)


def test_off_changes_nothing() -> None:
    features = torch.randn(3, 50, 8, generator=seeded(1))
    assert torch.equal(SpecAugment(OFF)(features, torch.tensor([50, 20, 0]), seeded(0)), features)


@settings(deadline=None, max_examples=30)
@given(
    lengths=st.lists(st.integers(0, 120), min_size=1, max_size=4), warp=st.integers(0, 20), seed=st.integers(0, 10**6)
)
def test_shape_input_and_padding_are_left_alone(lengths: list[int], warp: int, seed: int) -> None:
    features = torch.full((len(lengths), max(lengths) + 3, 40), float("nan"))
    for row, length in zip(features, lengths, strict=True):
        row[:length] = torch.randn(length, 40, generator=seeded(seed))
    before = features.clone()
    result = SpecAugment(SpecAugmentConfig(time_warp=warp))(features, torch.tensor(lengths), seeded(seed))
    assert result.shape == features.shape
    torch.testing.assert_close(features, before, equal_nan=True, atol=0, rtol=0)
    for row, length in zip(result, lengths, strict=True):
        assert row[:length].isfinite().all()
        assert row[length:].isnan().all()


def test_warping_moves_a_point_within_the_window_and_keeps_order_and_ends() -> None:
    config = SpecAugmentConfig(num_freq_masks=0, num_time_masks=0, time_warp=8)
    lengths = torch.tensor([100, 60, 19, 18])
    ramp = torch.arange(100.0)[None, :, None].expand(4, -1, 2)  # a frame's value is its place
    furthest = 0.0
    for seed in range(50):
        warped = SpecAugment(config)(ramp, lengths, seeded(seed))
        for row, length in zip(warped[..., 0], lengths.tolist(), strict=True):
            assert row[0] == 0
            assert row[length - 1] == length - 1
            assert (row[:length].diff() > 0).all()
            furthest = max(furthest, float((row - torch.arange(100.0)).abs().max()))
        assert torch.equal(warped[3], ramp[3])  # too short for the window
    assert 7 < furthest <= 8


def test_a_value_out_of_range_is_refused() -> None:
    with pytest.raises(UserError, match="num_time_masks is -1, expected 0 or more"):
        SpecAugmentConfig(num_time_masks=-1)
    with pytest.raises(UserError, match=r"time_mask_ratio is 5\.0, expected 0 to 1"):
        SpecAugmentConfig(time_mask_ratio=5.0)
