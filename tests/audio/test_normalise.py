from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from s2s.audio.fbank import Fbank
from s2s.audio.normalise import FeatureStatistics, GlobalNormalise, UtteranceNormalise
from s2s.errors import UserError


@pytest.fixture(scope="module")
def features(speech: list[Tensor]) -> list[Tensor]:
    fbank = Fbank()
    return [fbank(samples[None], torch.tensor([len(samples)]))[0][0] for samples in speech]


def padded(features: list[Tensor], value: float) -> tuple[Tensor, Tensor]:
    return nn.utils.rnn.pad_sequence(features, True, value), torch.tensor([len(matrix) for matrix in features])


def test_statistics_are_those_of_all_frames_joined(features: list[Tensor]) -> None:
    statistics = FeatureStatistics(80)
    for matrix in features:
        statistics.add(matrix)
    joined = torch.cat(features).double()
    assert statistics.count == len(joined)
    torch.testing.assert_close(statistics.mean, joined.mean(dim=0))
    torch.testing.assert_close(statistics.inverse_std, 1 / joined.std(dim=0, correction=0))


def test_a_constant_bin_does_not_divide_by_zero() -> None:
    statistics = FeatureStatistics(2, variance_floor=1e-4)
    statistics.add(torch.full((5, 2), -15.9))
    torch.testing.assert_close(statistics.inverse_std, torch.full((2,), 100.0, dtype=torch.float64))


def test_a_corpus_normalised_by_its_statistics_has_mean_0_and_variance_1(features: list[Tensor]) -> None:
    statistics = FeatureStatistics(80)
    for matrix in features:
        statistics.add(matrix)
    normalise = GlobalNormalise(80)
    normalise.set_statistics(statistics)
    batch, lengths = padded(features, 0.0)
    frames = torch.cat([row[:n] for row, n in zip(normalise(batch, lengths), lengths.tolist(), strict=True)])
    torch.testing.assert_close(frames.mean(dim=0), torch.zeros(80), atol=1e-4, rtol=0)
    torch.testing.assert_close(frames.std(dim=0), torch.ones(80), atol=1e-3, rtol=0)


def test_statistics_travel_in_the_state_dict(features: list[Tensor]) -> None:
    statistics = FeatureStatistics(80)
    statistics.add(features[0])
    saved, loaded = GlobalNormalise(80), GlobalNormalise(80)
    saved.set_statistics(statistics)
    assert set(saved.state_dict()) == {"mean", "inverse_std"}
    loaded.load_state_dict(saved.state_dict())
    batch, lengths = padded(features, 0.0)
    assert torch.equal(saved(batch, lengths), loaded(batch, lengths))
    assert not torch.equal(loaded(batch, lengths), GlobalNormalise(80)(batch, lengths))


def test_each_utterance_has_mean_0_and_variance_1(features: list[Tensor]) -> None:
    batch, lengths = padded(features, 7.0)
    for row, n in zip(UtteranceNormalise(80)(batch, lengths), lengths.tolist(), strict=True):
        torch.testing.assert_close(row[:n].mean(dim=0), torch.zeros(80), atol=1e-4, rtol=0)
        torch.testing.assert_close(row[:n].std(dim=0, correction=0), torch.ones(80), atol=1e-3, rtol=0)


@pytest.mark.parametrize("kind", [GlobalNormalise, UtteranceNormalise])
@settings(deadline=None, max_examples=20)
@given(
    lengths=st.lists(st.integers(0, 12), min_size=1, max_size=4),
    extra=st.integers(0, 4),
    padding=st.sampled_from([0.0, -1e4, float("nan"), float("inf")]),
)
def test_padding_changes_nothing_and_comes_out_as_zero(
    kind: type[GlobalNormalise | UtteranceNormalise], lengths: list[int], extra: int, padding: float
) -> None:
    generator = torch.Generator().manual_seed(0)
    normalise = kind(3)
    if isinstance(normalise, GlobalNormalise):
        statistics = FeatureStatistics(3)
        statistics.add(torch.randn(20, 3, generator=generator) * 4 + 2)
        normalise.set_statistics(statistics)
    matrices = [torch.randn(n, 3, generator=generator) * 3 - 5 for n in lengths]
    batch = torch.full((len(lengths), max(lengths) + extra, 3), padding)
    for row, matrix in zip(batch, matrices, strict=True):
        row[: len(matrix)] = matrix
    for row, matrix in zip(normalise(batch, torch.tensor(lengths)), matrices, strict=True):
        alone = normalise(matrix[None], torch.tensor([len(matrix)]))[0]
        torch.testing.assert_close(row[: len(matrix)], alone, atol=1e-5, rtol=1e-5)
        assert torch.equal(row[len(matrix) :], torch.zeros_like(row[len(matrix) :]))


def test_statistics_that_cannot_serve_are_refused() -> None:
    statistics = FeatureStatistics(3)
    with pytest.raises(UserError, match="statistics of no frames"):
        GlobalNormalise(3).set_statistics(statistics)
    with pytest.raises(UserError, match=r"shape \(5, 4\), expected \(frames, 3 bins\)"):
        statistics.add(torch.zeros(5, 4))
    with pytest.raises(UserError, match="not finite"):
        statistics.add(torch.full((5, 3), float("nan")))
    statistics.add(torch.zeros(5, 3))
    with pytest.raises(UserError, match="of 3 bins, expected 4"):
        GlobalNormalise(4).set_statistics(statistics)
