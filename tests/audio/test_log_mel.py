from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peers import transformers
from torch import Tensor
from torch.nn import functional as F

from s2s.audio.log_mel import LogMel, LogMelConfig
from s2s.errors import UserError

WINDOW = 480000  # Whisper's 30 s


@pytest.fixture
def extractor() -> Any:
    """transformers' own features."""
    return transformers().WhisperFeatureExtractor


def alone(log_mel: LogMel, samples: Tensor) -> Tensor:
    features, lengths = log_mel(samples[None], torch.tensor([len(samples)]))
    assert lengths.tolist() == [features.shape[1]] == [log_mel.num_frames(len(samples))]
    return features[0]


def by_definition(samples: Tensor, num_mel_bins: int = 80) -> Tensor:
    """The features of samples (n,), n > 200, through torch.stft."""
    log_mel = LogMel(LogMelConfig(num_mel_bins=num_mel_bins))
    stft = torch.stft(samples, 400, 160, window=torch.hann_window(400), center=True, return_complex=True)
    values = (stft[:, :-1].abs().square().T @ log_mel.filters).clamp(min=1e-10).log10()
    return (values.maximum(values.max() - 8) + 4) / 4


@pytest.mark.parametrize("num_mel_bins", [80, 128])
def test_equals_transformers_on_thirty_seconds(speech: list[Tensor], extractor: Any, num_mel_bins: int) -> None:
    log_mel = LogMel(LogMelConfig(num_mel_bins=num_mel_bins))
    for samples in speech:
        found = alone(log_mel, F.pad(samples, (0, WINDOW - len(samples))))
        expected = extractor(feature_size=num_mel_bins)(samples.numpy(), sampling_rate=16000, return_tensors="np")
        assert found.shape == (3000, num_mel_bins)
        torch.testing.assert_close(found, torch.from_numpy(expected.input_features[0].T), atol=1e-4, rtol=0)


@pytest.mark.parametrize("num_mel_bins", [80, 128])
def test_the_filters_are_those_of_transformers(extractor: Any, num_mel_bins: int) -> None:
    expected = torch.from_numpy(extractor(feature_size=num_mel_bins).mel_filters)
    found = LogMel(LogMelConfig(num_mel_bins=num_mel_bins)).filters
    torch.testing.assert_close(found.double(), expected, atol=1e-8, rtol=0)


@settings(max_examples=15)
@given(length=st.integers(201, 5000), seed=st.integers(0, 99))
def test_equals_the_definition_at_any_length(length: int, seed: int) -> None:
    samples = 0.1 * torch.randn(length, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(alone(LogMel(), samples), by_definition(samples), atol=1e-4, rtol=0)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lengths=st.lists(st.integers(0, 9000), min_size=1, max_size=4),
    extra=st.integers(0, 3000),
    padding=st.sampled_from([0.0, 1.0, float("nan"), float("inf")]),
)
def test_padding_changes_nothing(speech: list[Tensor], lengths: list[int], extra: int, padding: float) -> None:
    log_mel = LogMel()
    batch = torch.full((len(lengths), max(lengths) + extra), padding)
    for row, samples, length in zip(batch, speech, lengths, strict=False):
        row[:length] = samples[:length]
    features, feature_lengths = log_mel(batch, torch.tensor(lengths))
    assert features.shape == (len(lengths), log_mel.num_frames(batch.shape[1]), 80)
    for row, samples, length, frames in zip(features, speech, lengths, feature_lengths.tolist(), strict=False):
        torch.testing.assert_close(row[:frames], alone(log_mel, samples[:length]), atol=1e-4, rtol=0)
        assert torch.equal(row[frames:], torch.zeros_like(row[frames:]))


def test_a_loud_utterance_does_not_raise_the_floor_of_a_quiet_one() -> None:
    noise = torch.randn(2, 16000, generator=torch.Generator().manual_seed(0))
    batch = noise * torch.tensor([[1.0], [1e-4]])
    batch[1, 8000:] = 0
    features, _ = LogMel()(batch, torch.tensor([16000, 16000]))
    torch.testing.assert_close(features[1], alone(LogMel(), batch[1]), atol=1e-4, rtol=0)
    assert features[1].min() < features[0].max() - 2  # 8 / 4 below the loudest of its own only


@pytest.mark.parametrize("length", [160, 161, 200])
def test_an_utterance_shorter_than_half_a_window_is_reflected_again_and_again(length: int) -> None:
    samples = torch.randn(length, generator=torch.Generator().manual_seed(length))
    period = torch.cat([samples, samples[1:-1].flip(0)])
    frame = period.repeat(4)[2 * len(period) - 200 :][:400]  # centred on the first sample
    log_mel = LogMel()
    power = torch.fft.rfft(frame * torch.hann_window(400)).abs().square()
    expected = (power @ log_mel.filters).clamp(min=1e-10).log10()
    expected = (expected.maximum(expected.max() - 8) + 4) / 4
    torch.testing.assert_close(alone(log_mel, samples), expected[None], atol=1e-4, rtol=0)


def test_audio_longer_than_a_block_gives_the_same_frames(speech: list[Tensor]) -> None:
    samples = torch.cat(speech * 4)[: 160 * 2500]
    torch.testing.assert_close(alone(LogMel(), samples), by_definition(samples), atol=1e-4, rtol=0)


def test_digital_silence_is_the_floor_everywhere() -> None:
    features = alone(LogMel(), torch.zeros(4000))
    assert torch.equal(features, torch.full_like(features, -1.5))  # (log10(1e-10) + 4) / 4


def test_lower_precision_outside_does_not_reach_the_features(speech: list[Tensor]) -> None:
    expected = alone(LogMel(), speech[0])
    log_mel = copy.deepcopy(LogMel()).half()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(alone(log_mel, speech[0]), expected)


def test_nothing_is_saved_with_the_model() -> None:
    assert LogMel().state_dict() == {}


def test_integer_samples_are_refused() -> None:
    with pytest.raises(UserError, match=r"samples are torch\.int16, expected floating point"):
        LogMel()(torch.zeros(1, 1000, dtype=torch.int16), torch.tensor([1000]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sampling_rate": 0}, "log_mel: sampling_rate is 0, expected a positive"),
        ({"num_mel_bins": 0}, "num_mel_bins is 0, expected at least 1"),
        ({"frame_length": 0.0}, r"frame_length is 0\.0, expected at least 0\.000125 s"),
        ({"frame_length": 25.0, "frame_shift": 30.0}, r"frame_shift is 30\.0, expected at most frame_length"),
        ({"frame_shift": 0.0}, r"frame_shift is 0\.0, expected at least"),
    ],
)
def test_a_value_out_of_range_is_refused_with_the_range(options: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        LogMelConfig(**options)  # type: ignore[arg-type]


def test_too_many_bins_are_refused_with_a_number_that_works() -> None:
    with pytest.raises(UserError, match=r"num_mel_bins is 400, too many.*use at most \d+") as caught:
        LogMel(LogMelConfig(num_mel_bins=400))
    allowed = int(str(caught.value).split("use at most ")[1].split(",")[0])
    LogMel(LogMelConfig(num_mel_bins=allowed))
    with pytest.raises(UserError, match="too many"):
        LogMel(LogMelConfig(num_mel_bins=allowed + 1))
