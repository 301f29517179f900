"""Shards: every utterance once, whatever reads them, and as little read as can be."""

from __future__ import annotations

import random
from collections import Counter
from itertools import chain
from pathlib import Path

import pytest
import torch
from lhotse import CutSet

from s2s.audio.fbank import Fbank, FbankConfig
from s2s.data import shar
from s2s.data.buckets import bucketed, budget
from s2s.data.corpus import load_corpus
from s2s.data.dataset import SpeechDataset
from s2s.data.loader import DataConfig, evaluation_batches, training_batches
from s2s.data.samples import load_samples
from s2s.data.shar import batches_with_audio, planned, spread, with_audio, write_shar
from s2s.data.validate import validate
from s2s.errors import UserError
from s2s.tokenizers.character import CharacterTokenizer

CONFIG = DataConfig(max_batch_seconds=2.5, num_buckets=3, num_target_buckets=2, num_workers=0, shards_at_once=2)


@pytest.fixture
def cuts(kaldi: Path) -> CutSet:
    return load_corpus(kaldi).cuts


@pytest.fixture
def shards(cuts: CutSet, tmp_path: Path) -> Path:
    assert write_shar(cuts, tmp_path / "shards", 5) == 5
    return tmp_path / "shards"


@pytest.fixture
def dataset(digits) -> SpeechDataset:
    tokenizer = CharacterTokenizer.train([row["text"] for row in digits])
    return SpeechDataset(tokenizer, Fbank(FbankConfig(sampling_rate=8000, num_mel_bins=40)), skip_bad_audio=True)


def test_shards_hold_the_samples_and_the_texts(cuts: CutSet, shards: Path) -> None:
    corpus = load_corpus(f"shar:{shards}")
    assert not corpus.problems
    read = list(with_audio(corpus.cuts))
    assert [cut.id for cut in read] == [cut.id for cut in cuts]
    for one, other in zip(cuts, read, strict=True):
        assert torch.equal(load_samples(one), load_samples(other))
        assert one.supervisions[0].text == other.supervisions[0].text
        assert other.custom["origin"].startswith(str(shards / "cuts.00000"))


@pytest.mark.parametrize(("world_size", "num_workers"), [*((n, 0) for n in range(1, 9)), (1, 1), (1, 3), (3, 2)])
def test_every_utterance_is_once_in_an_epoch_whatever_the_ranks_and_workers(
    shards: Path, cuts: CutSet, dataset: SpeechDataset, world_size: int, num_workers: int
) -> None:
    config = DataConfig(**{**vars(CONFIG), "num_workers": num_workers})
    for data in (load_corpus(f"shar:{shards}").cuts, cuts):
        seen: list[str] = []
        counts = set()
        for rank in range(world_size):
            batches = training_batches(data, dataset, config, seed=1, epoch=0, rank=rank, world_size=world_size)
            made = list(batches)
            counts.add(len(made))
            seen += chain(*(batch.ids for batch in made))
            assert not any(batch.skipped for batch in made)
        assert len(counts) == 1
        assert sorted(seen) == sorted(cut.id for cut in cuts)


@pytest.mark.parametrize("num_shards", [3, 40, 200])
@pytest.mark.parametrize("world_size", [1, 2, 5, 8])
def test_ranks_read_their_own_shards_where_there_are_many(num_shards: int, world_size: int) -> None:
    chance = random.Random(0)
    lengths = {f"u{i}": (chance.uniform(1, 9), chance.randint(1, 20)) for i in range(600)}
    shards = {key: f"{number % num_shards:03d}" for number, key in enumerate(lengths)}

    def batches_of(some, seed):
        return bucketed(some, budget(30, None), 4, 2, seed)

    parts = [planned(lengths, shards, batches_of, 4, 1, rank, world_size) for rank in range(world_size)]
    assert len({len(part) for part in parts}) == 1
    assert Counter(chain(*chain(*parts))) == Counter(list(lengths))
    read = [{shards[key] for key in chain(*part)} for part in parts]
    if num_shards >= 8 * world_size:
        assert sum(map(len, read)) == num_shards
    assert planned(lengths, shards, batches_of, 4, 2, 0, world_size) != parts[0]


def test_a_shard_is_read_once_and_only_when_it_is_needed(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    inner = shar._read
    monkeypatch.setattr(shar, "_read", lambda path, wanted: (read.append(Path(path).name), inner(path, wanted))[1])
    cuts = list(load_corpus(f"shar:{shards}").cuts)
    batches = [cuts[first : first + 3] for first in range(10, len(cuts), 3)]
    stream = batches_with_audio(batches)
    next(stream)
    assert len(read) <= 2  # the first, and the next meanwhile
    list(stream)
    assert sorted(read) == [f"recording.{n:06d}.tar" for n in range(2, 5)]


def test_resuming_in_mid_epoch_gives_the_rest_and_reads_no_more(
    shards: Path, dataset: SpeechDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuts = load_corpus(f"shar:{shards}").cuts
    whole = [batch.ids for batch in training_batches(cuts, dataset, CONFIG, seed=1, epoch=3)]
    for skip in (1, len(whole) - 2):
        rest = training_batches(cuts, dataset, CONFIG, seed=1, epoch=3, skip_batches=skip)
        assert [batch.ids for batch in rest] == whole[skip:]


@pytest.mark.parametrize("damage", ["cut", "scrambled", "empty"])
def test_of_a_corrupt_shard_what_can_be_read_is_used_and_the_rest_named(
    shards: Path, dataset: SpeechDataset, damage: str
) -> None:
    tar = shards / "recording.000001.tar"
    content = tar.read_bytes()
    half = len(content) // 2
    tar.write_bytes({"cut": content[:half], "scrambled": content[:half] + b"x" * half, "empty": b""}[damage])
    cuts = load_corpus(f"shar:{shards}").cuts
    problems = validate(load_corpus(f"shar:{shards}"), read_audio=True)
    batches = list(training_batches(cuts, dataset, CONFIG, seed=1, epoch=0))
    skipped = [line for batch in batches for line in batch.skipped]
    assert sum(map(len, batches)) + len(skipped) == len(cuts)
    assert 1 <= len(skipped) <= 5
    assert all(f"{tar}: " in line and "cuts.000001.jsonl.gz:" in line for line in skipped)
    assert {problem.utterance for problem in problems} == {line.split(": ")[0] for line in skipped}
    assert {problem.kind for problem in problems} == {"bad_audio"}


def test_evaluation_goes_shard_by_shard(shards: Path, dataset: SpeechDataset) -> None:
    cuts = load_corpus(f"shar:{shards}").cuts
    found = [batch.ids for batch in evaluation_batches(cuts, dataset, CONFIG)]
    own = shar.shards_of(cuts)
    order = [own[key] for key in chain(*found)]
    assert order == sorted(order)
    assert len(order) == len(cuts)


def test_a_few_shards_are_enough_for_statistics(shards: Path, cuts: CutSet) -> None:
    sharded = load_corpus(f"shar:{shards}").cuts
    some = spread(sharded, 8)
    assert 8 <= len(some) <= 12
    assert len({shar.shard(cut) for cut in some}) == 2
    assert [cut.id for cut in spread(cuts, 8)] == [cut.id for cut in list(cuts)[::3]]


def test_what_is_no_folder_of_shards_is_refused(tmp_path: Path, shards: Path, kaldi: Path, dataset) -> None:
    with pytest.raises(UserError, match=r"shar:.*no cuts\.000000\.jsonl\.gz"):
        load_corpus(f"shar:{tmp_path}")
    (shards / "recording.000002.tar").unlink()
    corpus = load_corpus(f"shar:{shards}")
    assert [problem.kind for problem in corpus.problems] == ["missing_audio"] * 5
    others = [cut.with_id(f"other-{cut.id}") for cut in load_corpus(kaldi).cuts]
    with pytest.raises(UserError, match=r"write all of it"):
        training_batches(CutSet.from_cuts([*corpus.cuts, *others]), dataset, CONFIG, seed=1, epoch=0)
