"""Noise and rooms: levels, lengths, what stays, and that chance is that of seed, epoch and utterance alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from lhotse import CutSet

from s2s.audio.fbank import Fbank, FbankConfig
from s2s.data.corpus import load_corpus
from s2s.data.cuts import origin, text
from s2s.data.dataset import SpeechDataset
from s2s.data.loader import DataConfig, training_batches
from s2s.data.samples import load_samples
from s2s.data.surroundings import Surroundings, SurroundingsConfig
from s2s.errors import UserError
from s2s.tokenizers.character import CharacterTokenizer


@pytest.fixture
def cuts(kaldi: Path) -> CutSet:
    return load_corpus(kaldi).cuts


@pytest.fixture
def noise(folder, yesno) -> str:
    """Hebrew words, at the rate of the digits, longer than them."""
    return str(folder("noise", wav_scp=[f"{row['id']} {row['path']}" for row in yesno]))


def impulse(tmp_path: Path, rate: int) -> tuple[str, np.ndarray]:
    response = np.zeros(rate // 2)
    response[[0, rate // 100, rate // 10]] = [0.8, 0.5, 0.3]
    soundfile.write(tmp_path / "room.wav", response, rate, subtype="FLOAT")
    (tmp_path / "rooms").mkdir()
    (tmp_path / "rooms/wav.scp").write_text(f"room {tmp_path / 'room.wav'}\n")
    return str(tmp_path / "rooms"), response


def test_noise_has_the_level_that_was_drawn(cuts: CutSet, noise: str) -> None:
    around = Surroundings(SurroundingsConfig(noise=[noise], noise_share=1.0, noise_snr=[5.0, 15.0]))
    ratios = []
    for cut in cuts:
        noisy = around.around(cut, seed=1, epoch=0)
        clean, heard = load_samples(cut), load_samples(noisy)
        assert heard.shape == clean.shape
        assert (noisy.id, text(noisy), origin(noisy)) == (cut.id, text(cut), origin(cut))
        ratios.append(float(10 * torch.log10(clean.square().mean() / (heard - clean).square().mean())))
    assert min(ratios) > 4.9
    assert max(ratios) < 15.1
    assert max(ratios) - min(ratios) > 5


def test_short_noise_is_repeated_and_noise_of_another_rate_resampled(cuts: CutSet, tmp_path: Path) -> None:
    samples = np.random.default_rng(0).normal(0, 0.1, 1600)
    soundfile.write(tmp_path / "hiss.wav", samples, 16000)
    (tmp_path / "hiss").mkdir()
    (tmp_path / "hiss/wav.scp").write_text(f"hiss {tmp_path / 'hiss.wav'}\n")
    around = Surroundings(SurroundingsConfig(noise=[str(tmp_path / "hiss")], noise_share=1.0))
    cut = max(cuts, key=lambda each: each.duration)
    heard = load_samples(around.around(cut, 1, 0)) - load_samples(cut)
    assert len(heard) == round(cut.duration * 8000)
    period = 800  # 0.1 s at 8 kHz
    torch.testing.assert_close(heard[-2 * period : -period], heard[-period:], atol=0.02, rtol=0)
    assert heard[-period:].abs().max() > 0


def test_a_room_is_a_convolution_that_keeps_the_level(cuts: CutSet, tmp_path: Path) -> None:
    rooms, response = impulse(tmp_path, 8000)
    around = Surroundings(SurroundingsConfig(rooms=[rooms], room_share=1.0))
    cut = next(iter(cuts))
    clean, heard = load_samples(cut).double(), load_samples(around.around(cut, 1, 0)).double()
    expected = torch.from_numpy(np.convolve(clean.numpy(), response)[: len(clean)])
    expected *= (clean.square().sum() / expected.square().sum()).sqrt()
    torch.testing.assert_close(heard, expected, atol=1e-3, rtol=0)


def test_shares_are_kept_and_chance_is_that_of_seed_epoch_and_utterance(cuts: CutSet, noise: str) -> None:
    around = Surroundings(SurroundingsConfig(noise=[noise], noise_share=0.25))

    def noisy(seed: int, epoch: int) -> list[bool]:
        return [around.around(cut, seed, epoch) is not cut for cut in cuts]

    drawn = [noisy(1, epoch) for epoch in range(40)]
    share = sum(map(sum, drawn)) / sum(map(len, drawn))
    assert abs(share - 0.25) < 5 * (0.25 * 0.75 / (40 * len(drawn[0]))) ** 0.5
    assert drawn[0] == noisy(1, 0)
    assert drawn[0] != drawn[1]
    assert drawn[0] != noisy(2, 0)


def test_batches_of_a_training_have_them_and_their_lengths_stay(
    cuts: CutSet, digits: list[dict[str, str]], noise: str, tmp_path: Path
) -> None:
    rooms, _ = impulse(tmp_path, 16000)
    settings = SurroundingsConfig(noise=[noise], noise_share=1.0, rooms=[rooms], room_share=1.0)
    dataset = SpeechDataset(
        CharacterTokenizer.train([row["text"] for row in digits]), Fbank(FbankConfig(sampling_rate=8000))
    )
    plain, workers = DataConfig(num_workers=0), DataConfig(num_workers=2)
    clean = list(training_batches(cuts, dataset, plain, seed=1, epoch=0))
    made = [
        list(training_batches(cuts, dataset, config, seed=1, epoch=0, surroundings=Surroundings(settings)))
        for config in (plain, workers)
    ]
    for one, other, before in zip(*made, clean, strict=True):
        assert one.ids == before.ids
        assert not one.skipped
        assert torch.equal(one.source_lengths, before.source_lengths)
        assert not torch.allclose(one.source, before.source, atol=0.1)
        torch.testing.assert_close(one.source, other.source, atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"noise_share": 1.5}, r"noise_share is 1\.5; expected a share"),
        ({"room_share": -0.1}, r"room_share is -0\.1; expected a share"),
        ({"noise_snr": [20.0, 10.0]}, r"noise_snr is \[20\.0, 10\.0\]; expected the least and the most"),
    ],
)
def test_values_are_checked(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        SurroundingsConfig(**settings)  # type: ignore[arg-type]


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere: not there; expected a Kaldi data directory"):
        Surroundings(SurroundingsConfig(noise=[str(tmp_path / "nowhere")]))
