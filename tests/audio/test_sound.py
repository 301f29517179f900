from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from s2s.audio.resample import resample
from s2s.audio.sound import Sound, cut_short
from s2s.errors import UserError


def noise(length: int, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(length).uniform(-0.5, 0.5, (length, channels)).astype(np.float32)


def sound(pieces: Iterator[np.ndarray], channels: int = 1) -> Sound:
    return Sound("talk", 8000, channels, pieces)


@settings(max_examples=15)
@given(
    sizes=st.lists(st.integers(0, 3000), min_size=1, max_size=6).filter(any),
    rate=st.sampled_from([8000, 16000, 11025]),
    block_seconds=st.sampled_from([0.001, 0.1, 5.0]),
    channel=st.sampled_from([None, 1, 2]),
)
def test_blocks_are_the_same_however_a_sound_arrives(
    sizes: list[int], rate: int, block_seconds: float, channel: int | None
) -> None:
    whole = noise(sum(sizes), 2)
    pieces = iter(np.split(whole, np.cumsum(sizes)[:-1]))
    blocks = list(sound(pieces, 2).blocks(rate, block_seconds, channel))
    mono = whole.mean(axis=1) if channel is None else np.ascontiguousarray(whole[:, channel - 1])
    assert torch.equal(torch.cat(blocks), resample(torch.from_numpy(mono), 8000, rate))
    assert {len(block) for block in blocks[:-1]} <= {round(block_seconds * rate)}


@pytest.mark.parametrize("rate", [8000, 16000])
def test_an_error_comes_after_all_samples_before_it(rate: int) -> None:
    whole = noise(10000)

    def pieces() -> Iterator[np.ndarray]:
        yield from np.split(whole, 4)
        raise cut_short("talk", "no more")

    found: list[torch.Tensor] = []
    with pytest.raises(UserError, match=r"talk: is cut short or damaged \(no more\)"):
        found.extend(sound(pieces()).blocks(rate, 0.3))
    assert torch.equal(torch.cat(found), resample(torch.from_numpy(whole[:, 0]), 8000, rate))


def test_blocks_do_not_share_memory() -> None:
    first, second = sound(iter([noise(1600)])).blocks(block_seconds=0.1)
    kept = second.clone()
    first.zero_()
    assert torch.equal(second, kept)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 20.0])
def test_samples_on_another_scale_are_refused_when_reached(bad: float) -> None:
    blocks = sound(iter([noise(800), np.full((800, 1), bad, np.float32)])).blocks(block_seconds=0.1)
    assert len(next(blocks)) == 800
    with pytest.raises(UserError, match=r"talk: its samples reach .* expected floating point in \[-1, 1\]"):
        next(blocks)


@pytest.mark.parametrize("pieces", [[], [np.zeros((0, 1), np.float32)]])
def test_a_sound_of_no_samples_is_refused(pieces: list[np.ndarray]) -> None:
    with pytest.raises(UserError, match="talk: holds no samples"):
        list(sound(iter(pieces)).blocks(16000))


def test_a_header_of_one_sample_a_second_is_not_believed() -> None:
    with pytest.raises(UserError, match=r"talk: is cut short or damaged \(its header says 1 Hz"):
        list(Sound("talk", 1, 1, iter([noise(8)])).blocks(16000))


def test_a_rate_that_is_not_positive_is_refused() -> None:
    with pytest.raises(UserError, match="sampling rates must be positive, got 8000 -> 0 Hz"):
        list(sound(iter([noise(8)])).blocks(0))
