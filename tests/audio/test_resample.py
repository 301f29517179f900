from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from s2s.audio.resample import resample
from s2s.errors import UserError


def tone(hertz: float, rate: int, seconds: float = 0.5) -> Tensor:
    return torch.sin(2 * math.pi * hertz * torch.arange(int(rate * seconds)) / rate) * 0.5


@pytest.mark.parametrize(("orig_rate", "new_rate"), [(8000, 16000), (44100, 16000), (16000, 8000), (48000, 22050)])
def test_a_tone_is_the_same_tone_at_another_rate(orig_rate: int, new_rate: int) -> None:
    found, expected = resample(tone(440, orig_rate), orig_rate, new_rate), tone(440, new_rate)
    assert found.dtype == torch.float32
    assert abs(len(found) - len(expected)) <= 1
    inner = slice(200, min(len(found), len(expected)) - 200)
    torch.testing.assert_close(found[inner], expected[inner], atol=1e-3, rtol=0)


def test_a_tone_above_the_new_nyquist_is_gone_not_folded() -> None:
    assert resample(tone(6000, 16000), 16000, 8000)[200:-200].abs().max() < 1e-3


def test_the_same_rate_changes_nothing() -> None:
    samples = tone(440, 16000)
    assert resample(samples, 16000, 16000) is samples


def test_no_samples_stay_no_samples() -> None:
    assert resample(torch.zeros(0), 16000, 8000).shape == (0,)


@pytest.mark.parametrize(("orig_rate", "new_rate"), [(0, 16000), (16000, -8000)])
def test_a_rate_that_is_not_positive_is_refused(orig_rate: int, new_rate: int) -> None:
    with pytest.raises(UserError, match="sampling rates must be positive"):
        resample(torch.zeros(10), orig_rate, new_rate)
