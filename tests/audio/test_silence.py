from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from s2s.audio.read import read_audio
from s2s.audio.silence import trailing_silence

RATE = 16000


def noise(seconds: float, level: float, seed: int = 0) -> torch.Tensor:
    return level * torch.randn(round(seconds * RATE), generator=torch.Generator().manual_seed(seed))


@given(st.floats(0.0, 3.0), st.sampled_from([0.0, 1e-4]), st.sampled_from([0.02, 0.3]))
def test_silence_behind_a_sound_is_as_long_as_it_is(seconds: float, floor: float, level: float) -> None:
    samples = torch.cat((noise(1.0, level), noise(seconds, floor, 1)))
    assert trailing_silence(samples, RATE) == pytest.approx(seconds, abs=0.021)


def test_where_nothing_is_loud_all_is_silent() -> None:
    for samples in (torch.zeros(RATE), noise(1.0, 1e-4), torch.zeros(0), torch.zeros(7)):
        assert trailing_silence(samples, RATE) == len(samples) / RATE


def test_steady_noise_alone_is_not_silent() -> None:
    assert trailing_silence(noise(2.0, 0.05), RATE) < 0.1


def test_silence_over_noise_that_is_20_db_below_speech() -> None:
    samples = torch.cat((noise(1.0, 0.2), noise(1.0, 0.02, 1)))
    assert trailing_silence(samples, RATE) == pytest.approx(1.0, abs=0.1)


def test_behind_real_speech_it_is_what_was_added(data_root: Path) -> None:
    for path in sorted((data_root / "kerstin-german-cc0" / "audio").iterdir())[:8]:
        samples, _ = read_audio(path, RATE)
        before = trailing_silence(samples, RATE)
        assert before < 0.5
        added = torch.cat((samples, torch.zeros(RATE)))
        assert trailing_silence(added, RATE) == pytest.approx(before + 1.0, abs=0.1)
