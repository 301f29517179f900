"""Speakers who talk at once: who, when, what is written, what is heard."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from conftest import Cli
from lhotse import CutSet

from s2s.audio.fbank import Fbank, FbankConfig
from s2s.data.corpus import load_corpus
from s2s.data.cuts import origin, speaker, text
from s2s.data.dataset import SpeechDataset
from s2s.data.jsonl import write_cuts
from s2s.data.loader import DataConfig, training_batches
from s2s.data.overlap import overlapped
from s2s.data.samples import load_samples
from s2s.errors import UserError
from s2s.tokenizers.character import CharacterTokenizer


@pytest.fixture
def cuts(kaldi: Path) -> CutSet:
    return load_corpus(kaldi).cuts


@pytest.mark.parametrize("speakers", [2, 3])
def test_each_utterance_is_in_one_mixture_with_those_of_others(cuts: CutSet, speakers: int) -> None:
    by_id = {cut.id: cut for cut in cuts}
    mixed = overlapped(cuts, speakers, 1, 0.1, "‖")
    used = Counter(name for cut in mixed for name in cut.id.split("+"))
    assert set(used.values()) == {1}
    assert len(used) > len(by_id) / 2
    for cut in mixed:
        parts = [by_id[name] for name in cut.id.split("+")]
        assert len({speaker(part) for part in parts}) == speakers
        assert text(cut) == " ‖ ".join(text(part) or "" for part in parts)
        begins = [track.offset for track in cut.tracks][:speakers]
        assert begins[0] == 0.0
        for before, begin, after in zip(parts, begins, begins[1:], strict=False):
            assert begin + 0.1 - 1e-6 <= after <= begin + max(0.1, before.duration) + 1e-6
        assert cut.duration == pytest.approx(max(b + p.duration for b, p in zip(begins, parts, strict=True)), abs=1e-3)


def test_the_same_seed_gives_the_same_and_another_seed_others(cuts: CutSet) -> None:
    first, again, other = (list(overlapped(cuts, 2, seed, 0.1, "‖").ids) for seed in (1, 1, 2))
    assert first == again != other


def test_what_is_heard_is_the_sum_and_is_read_back_from_a_file(cuts: CutSet, tmp_path: Path) -> None:
    by_id = {cut.id: load_samples(cut) for cut in cuts}
    write_cuts(overlapped(cuts, 2, 1, 0.1, "‖"), tmp_path / "mixed.jsonl.gz")
    corpus = load_corpus(tmp_path / "mixed.jsonl.gz")
    assert corpus.problems == []
    for number, cut in enumerate(corpus.cuts, start=1):
        heard = load_samples(cut)
        expected = torch.zeros(len(heard))
        for name, track in zip(cut.id.split("+"), cut.tracks, strict=False):
            begin = round(track.offset * cut.sampling_rate)
            own = by_id[name][: len(heard) - begin]
            expected[begin : begin + len(own)] += own
        torch.testing.assert_close(heard, expected, atol=1e-5, rtol=0)
        assert origin(cut).endswith(f"mixed.jsonl.gz:{number}")
    dataset = SpeechDataset(
        CharacterTokenizer.train([text(cut) or "" for cut in corpus.cuts]),
        Fbank(FbankConfig(sampling_rate=8000, num_mel_bins=40)),
    )
    batches = list(training_batches(corpus.cuts, dataset, DataConfig(num_workers=0), seed=1, epoch=0))
    assert sorted(name for batch in batches for name in batch.ids) == sorted(corpus.cuts.ids)
    assert all("‖" in words for batch in batches for words in batch.texts)


def test_too_few_speakers_and_a_mark_that_is_a_word_are_refused(cuts: CutSet) -> None:
    with pytest.raises(UserError, match=r"5 speakers are named, expected at least 7"):
        overlapped(cuts, 7, 1, 0.1, "‖")
    with pytest.raises(UserError, match=r"'zero' is in its text; choose another mark with --change"):
        overlapped(cuts, 2, 1, 0.1, "zero")


def test_the_command_writes_cuts_that_validate_and_cannot_be_a_kaldi_directory(
    kaldi: Path, tmp_path: Path, s2s_cli: Cli
) -> None:
    out = tmp_path / "mixed.jsonl.gz"
    code, told, _ = s2s_cli("data", "overlap", kaldi, "--out", out, "--speakers", 2)
    assert code == 0
    assert "mixtures" in told
    assert s2s_cli("data", "validate", out)[0] == 0
    code, _, error = s2s_cli("data", "convert", out, tmp_path / "kaldi")
    assert code == 1
    assert "one for a recording" in error
    for options, message in (
        (("--out", tmp_path / "kaldi"), "expected a name in .jsonl.gz"),
        (("--out", out), "there already"),
        (("--out", tmp_path / "new.jsonl.gz", "--change", "a b"), "expected a word of its own"),
    ):
        code, _, error = s2s_cli("data", "overlap", kaldi, *options)
        assert code == 1
        assert message in error
