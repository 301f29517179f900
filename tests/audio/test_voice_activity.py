from __future__ import annotations

import math
from importlib.util import find_spec
from itertools import accumulate

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from s2s.audio import voice_activity
from s2s.audio.silero import SileroVAD
from s2s.audio.voice_activity import EnergyVAD, best_detector
from s2s.errors import UserError

SPEECH = 0.4  # the onset of the windows


def whole(samples: Tensor, sampling_rate: int = 16000) -> Tensor:
    detector = EnergyVAD(sampling_rate)
    return torch.cat([detector.feed(samples), detector.finish()])


def noise(seconds: float, sampling_rate: int = 16000) -> Tensor:
    """White noise of power 1."""
    return torch.randn(round(seconds * sampling_rate), generator=torch.Generator().manual_seed(1))


def recording(speech: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Clips with digital silence of 3 s before, between and after them; and which frames (T,) lie in clips."""
    parts, inside = [torch.zeros(94 * 512)], [torch.zeros(94)]
    for clip in speech:
        count = len(clip) // 512
        parts += [clip[: count * 512], torch.zeros(94 * 512)]
        inside += [torch.ones(count), torch.zeros(94)]
    return torch.cat(parts), torch.cat(inside).bool()


def loud(samples: Tensor) -> Tensor:
    """Frames (T,) at most 25 dB below the loudest twentieth."""
    level = samples[: len(samples) // 512 * 512].view(-1, 512).square().mean(dim=1).clamp(min=1e-12).log10() * 10
    return level > level.quantile(0.95) - 25


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(st.integers(0, 90000), max_size=8), seconds=st.sampled_from([0.5, 5.0, 30.0]))
def test_probabilities_do_not_depend_on_how_samples_arrive(
    speech: list[Tensor], sizes: list[int], seconds: float
) -> None:
    samples = recording(speech)[0][: round(seconds * 16000)]
    pieces = samples.tensor_split([min(place, len(samples)) for place in accumulate(sizes)])
    detector = EnergyVAD()
    found = [*map(detector.feed, pieces), detector.finish()]
    assert torch.equal(torch.cat(found), whole(samples))


def test_a_recording_leaves_nothing_for_the_next(speech: list[Tensor]) -> None:
    detector = EnergyVAD()
    assert detector.finish().shape == (0,)
    detector.feed(torch.cat(speech))
    detector.finish()
    assert torch.equal(torch.cat([detector.feed(speech[1]), detector.finish()]), whole(speech[1]))


@pytest.mark.parametrize("sampling_rate", [8000, 11025, 16000, 44100])
def test_frames_are_as_many_as_the_samples_begin(sampling_rate: int) -> None:
    size = EnergyVAD(sampling_rate).frame_samples
    assert size / sampling_rate == pytest.approx(0.032, rel=0.005)
    counts = (0, 1, size, size + 1, 700 * size, 700 * size + 1)
    assert [len(whole(torch.zeros(n), sampling_rate)) for n in counts] == [0, 1, 1, 2, 700, 701]


def test_memory_is_bounded_however_long_the_recording() -> None:
    detector = EnergyVAD()
    for _ in range(100):
        detector.feed(torch.zeros(20000))
    assert sum(map(len, detector._groups)) <= 17 * 32
    assert sum(map(len, detector._samples._rest)) < 32 * 512


@pytest.mark.parametrize("sampling_rate", [8000, 16000, 44100])
@pytest.mark.parametrize("level", [0.3, 1e-2, 1e-4, 0.0])
def test_steady_noise_of_any_level_is_no_speech(sampling_rate: int, level: float) -> None:
    assert whole(noise(40, sampling_rate) * level, sampling_rate).max() < 0.25


def test_hum_is_no_speech() -> None:
    time = torch.arange(40 * 16000) / 16000
    hum = sum(torch.sin(2 * math.pi * 50 * k * time) / k for k in range(1, 20))
    assert whole(0.1 * hum + 0.001 * noise(40)).max() < SPEECH


def test_rounding_noise_is_silence() -> None:
    samples = torch.cat([torch.zeros(20 * 16000), (noise(2) * 0.6).round() / 32768, torch.zeros(20 * 16000)])
    assert whole(samples).max() < 0.25


def test_a_louder_noise_is_heard_as_speech_only_until_it_has_lasted() -> None:
    samples = noise(60)
    samples[: 30 * 16000] *= 0.01
    frames = (whole(samples * 0.1) > SPEECH).nonzero()[:, 0] * 0.032
    assert frames.min() > 29.9
    assert 34 < frames.max() < 38


@pytest.mark.parametrize(("level", "share"), [(1.0, 0.99), (0.1, 0.99), (0.01, 0.9)])  # peaks of 7 bits in the last
def test_words_between_digital_silences_are_speech_at_any_level(
    speech: list[Tensor], level: float, share: float
) -> None:
    samples, inside = recording(speech)
    samples = (samples * level * 32768).round() / 32768
    found = whole(samples) > SPEECH
    assert found[loud(samples) & inside].float().mean() > share
    outside = ~inside
    outside[1:] &= ~inside[:-1]
    outside[2:] &= ~inside[:-2]  # the window reaches half a frame back, its mean one frame on each side
    outside[:-1] &= ~inside[1:]
    assert not found[outside].any()


def test_what_is_inaudible_beside_speech_is_no_speech(speech: list[Tensor]) -> None:
    samples, inside = recording(speech)
    samples = samples * 0.5 / samples.abs().max()
    faint = samples[inside.repeat_interleave(512)].square().mean().sqrt() * 10 ** (-60 / 20) * noise(2)
    place = 94 * 512 - len(faint) - 5000  # in the digital silence before the first clip
    samples[place : place + len(faint)] = faint
    assert whole(samples)[:84].max() < SPEECH
    alone = F.pad(samples[: 94 * 512], (0, 20 * 16000))
    assert whole(alone)[:84].max() > SPEECH  # for it could be the voice in a quiet recording


@pytest.mark.parametrize(("ratio", "share"), [(20, 0.9), (10, 0.8)])  # weak consonants lie below the noise
def test_words_in_noise_are_speech_and_the_noise_is_not(speech: list[Tensor], ratio: int, share: float) -> None:
    samples, inside = recording(speech)
    power = samples[inside.repeat_interleave(512)].square().mean()
    found = whole(samples + noise(len(samples) / 16000) * power.sqrt() * 10 ** (-ratio / 20)) > SPEECH
    assert found[loud(samples) & inside].float().mean() > share
    assert found[~inside].float().mean() < 0.05


def test_speech_that_starts_at_once_and_hardly_pauses_is_heard(digits: list[Tensor]) -> None:
    samples = torch.cat(digits * 6)
    found = whole(samples, 8000) > SPEECH
    assert found[:4].all()
    assert found.float().mean() > 0.9


def test_the_best_detector_is_silero_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(best_detector(16000), EnergyVAD)  # conftest.py hides it
    if find_spec("silero_vad") is None:  # not imported: that sets the threads of the process to one
        pytest.skip("pip install silero-vad")
    monkeypatch.setattr(voice_activity, "find_spec", find_spec)
    assert isinstance(best_detector(8000), SileroVAD)
    assert best_detector(8000).sampling_rate == 8000
    assert isinstance(best_detector(44100), EnergyVAD)  # a rate that silero does not know


@pytest.mark.parametrize("samples", [torch.zeros(2, 512), torch.zeros(512, dtype=torch.int16)])
def test_what_is_no_waveform_is_refused(samples: Tensor) -> None:
    with pytest.raises(ValueError, match=r"expected floating-point samples \(n,\)"):
        EnergyVAD().feed(samples)


def test_a_rate_too_low_for_speech_is_refused() -> None:
    with pytest.raises(UserError, match=r"sampling_rate is 1000, expected at least 2000 Hz"):
        EnergyVAD(1000)
