from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lhotse import CutSet

from s2s.audio.fbank import Fbank, FbankConfig
from s2s.audio.read import read_audio
from s2s.data.corpus import load_corpus
from s2s.data.dataset import SpeechDataset
from s2s.errors import UserError
from s2s.tokenizers.character import CharacterTokenizer

CONFIG = FbankConfig(sampling_rate=8000, num_mel_bins=40)


@pytest.fixture
def cuts(kaldi: Path) -> CutSet:
    return load_corpus(kaldi).cuts


@pytest.fixture
def tokenizer(digits) -> CharacterTokenizer:
    return CharacterTokenizer.train([row["text"] for row in digits])


def test_a_batch_holds_each_utterance_as_if_alone(cuts: CutSet, tokenizer: CharacterTokenizer) -> None:
    fbank = Fbank(CONFIG)
    batch = SpeechDataset(tokenizer, fbank)[cuts.subset(first=6)]
    assert batch.source.shape == (6, int(batch.source_lengths.max()), 40)
    assert batch.source.dtype == torch.float32
    assert batch.target.dtype == torch.int64
    assert not batch.source.requires_grad
    for row, cut in enumerate(cuts.subset(first=6)):
        samples, _ = read_audio(cut.recording.sources[0].source)
        alone, length = fbank(samples[None], torch.tensor([len(samples)]))
        frames, tokens = int(batch.source_lengths[row]), int(batch.target_lengths[row])
        assert frames == int(length)
        torch.testing.assert_close(batch.source[row, :frames], alone[0])
        assert not batch.source[row, frames:].any()
        assert batch.target[row, :tokens].tolist() == tokenizer.encode(cut.supervisions[0].text)
        assert not batch.target[row, tokens:].any()
        assert (batch.ids[row], batch.texts[row]) == (cut.id, cut.supervisions[0].text)
    assert batch.seconds == pytest.approx(sum(cut.duration for cut in cuts.subset(first=6)))


def test_audio_is_resampled_to_the_rate_of_the_features(cuts: CutSet) -> None:
    config = FbankConfig(sampling_rate=16000, num_mel_bins=40)
    cut = cuts.subset(first=1)
    batch = SpeechDataset(None, Fbank(config))[cut]
    samples, _ = read_audio(cut[0].recording.sources[0].source, sampling_rate=16000)
    expected, _ = Fbank(config)(samples[None], torch.tensor([len(samples)]))
    torch.testing.assert_close(batch.source, expected)


def test_without_a_tokenizer_the_targets_are_empty(cuts: CutSet) -> None:
    batch = SpeechDataset(None, Fbank(CONFIG))[cuts.subset(first=3)]
    assert batch.target.shape == (3, 0)
    assert batch.target_lengths.tolist() == [0, 0, 0]
    assert all(batch.texts)


def test_an_utterance_without_text_cannot_be_learnt(folder, digits, tokenizer: CharacterTokenizer) -> None:
    cuts = load_corpus(folder(wav_scp=[f"a {digits[0]['path']}"])).cuts
    with pytest.raises(UserError, match=r"wav.scp:1: utterance a has no text"):
        SpeechDataset(tokenizer, Fbank(CONFIG))[cuts]
    assert SpeechDataset(None, Fbank(CONFIG))[cuts].texts == [""]


@pytest.fixture
def spoiled(folder, digits, tmp_path: Path) -> CutSet:
    """Three utterances, the second of which lost its end after the corpus was read, the third too short for a frame."""
    flac = tmp_path / "b.flac"
    flac.write_bytes(Path(digits[1]["path"]).read_bytes())
    recordings = [f"a {digits[0]['path']}", f"b {flac}"]
    made = folder(wav_scp=recordings, segments=["a a 0 -1", "b b 0 -1", "c a 0 0.01"])
    cuts = load_corpus(made).cuts
    flac.write_bytes(flac.read_bytes()[:-400])
    return cuts


def test_audio_that_fails_is_named_with_its_line(spoiled: CutSet) -> None:
    with pytest.raises(UserError, match=r"segments:2: utterance b: .*b.flac: .*cut short"):
        SpeechDataset(None, Fbank(CONFIG))[spoiled]
    with pytest.raises(UserError, match=r"segments:3: utterance c: 0.010 s are shorter than a frame"):
        SpeechDataset(None, Fbank(CONFIG))[spoiled.filter(lambda cut: cut.id == "c").to_eager()]


def test_audio_that_fails_can_be_skipped_and_is_named(spoiled: CutSet, tokenizer: CharacterTokenizer) -> None:
    dataset = SpeechDataset(None, Fbank(CONFIG), skip_bad_audio=True)
    batch = dataset[spoiled]
    assert batch.ids == ["a"]
    assert [line.split(":")[0] for line in batch.skipped] == ["b", "c"]
    nothing = dataset[spoiled.filter(lambda cut: cut.id != "a").to_eager()]
    assert (len(nothing), nothing.source.shape, nothing.seconds) == (0, (0, 0, 40), 0.0)


def test_a_batch_moves_with_all_its_tensors(cuts: CutSet, tokenizer: CharacterTokenizer) -> None:
    batch = SpeechDataset(tokenizer, Fbank(CONFIG))[cuts.subset(first=2)]
    moved = batch.to("meta")
    for name in ("source", "source_lengths", "target", "target_lengths"):
        assert getattr(moved, name).device.type == "meta"
    assert (moved.ids, moved.texts, moved.seconds) == (batch.ids, batch.texts, batch.seconds)
