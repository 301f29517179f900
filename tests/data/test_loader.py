from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from itertools import chain
from pathlib import Path

import pytest
import torch
from lhotse import CutSet
from omegaconf import OmegaConf

from s2s.audio.fbank import Fbank, FbankConfig
from s2s.data.batch import Batch
from s2s.data.corpus import load_corpus
from s2s.data.dataset import SpeechDataset
from s2s.data.loader import DataConfig, evaluation_batches, speed_factor, training_batches
from s2s.errors import UserError
from s2s.tokenizers.character import CharacterTokenizer

CONFIG = DataConfig(max_batch_seconds=2.5, num_buckets=3, num_workers=0)


@pytest.fixture
def cuts(kaldi: Path) -> CutSet:
    return load_corpus(kaldi).cuts


@pytest.fixture
def dataset(digits) -> SpeechDataset:
    tokenizer = CharacterTokenizer.train([row["text"] for row in digits])
    return SpeechDataset(tokenizer, Fbank(FbankConfig(sampling_rate=8000, num_mel_bins=40, dither=1.0)))


def same(left: Batch, right: Batch) -> bool:
    # Workers count with one thread, the main process with more: the last bit of a product may differ.
    return (
        left.ids == right.ids
        and left.texts == right.texts
        and torch.allclose(left.source, right.source, atol=1e-4)
        and torch.equal(left.source_lengths, right.source_lengths)
        and torch.equal(left.target, right.target)
    )


def assert_same(left: list[Batch], right: list[Batch]) -> None:
    assert len(left) == len(right)
    assert all(map(same, left, right))


def ids(batches) -> list[list[str]]:
    return [batch.ids for batch in batches]


def test_an_epoch_has_each_utterance_once_within_the_budget(cuts: CutSet, dataset: SpeechDataset) -> None:
    batches = training_batches(cuts, dataset, CONFIG, seed=1, epoch=0)
    made = list(batches)
    assert len(made) == len(batches) > 3
    assert sorted(chain(*ids(made))) == sorted(cut.id for cut in cuts)
    for batch in made:  # 80 samples a frame
        assert len(batch) * int(batch.source_lengths.max()) * 0.01 <= CONFIG.max_batch_seconds


def test_seed_and_epoch_alone_decide_the_batches(cuts: CutSet, dataset: SpeechDataset) -> None:
    first = list(training_batches(cuts, dataset, CONFIG, seed=1, epoch=0))
    random.seed(5)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    assert_same(first, list(training_batches(cuts, dataset, CONFIG, seed=1, epoch=0)))
    assert torch.equal(state, torch.get_rng_state())
    assert ids(first) != ids(training_batches(cuts, dataset, CONFIG, seed=1, epoch=1))
    assert ids(first) != ids(training_batches(cuts, dataset, CONFIG, seed=2, epoch=0))


def test_any_number_of_workers_gives_the_same_batches(cuts: CutSet, dataset: SpeechDataset) -> None:
    config = DataConfig(max_batch_seconds=2.5, num_buckets=3, num_workers=2)
    assert_same(
        list(training_batches(cuts, dataset, CONFIG, seed=1, epoch=0)),
        list(training_batches(cuts, dataset, config, seed=1, epoch=0)),
    )


@pytest.mark.parametrize("skip", [1, 4])
def test_resuming_gives_exactly_the_remaining_batches(cuts: CutSet, dataset: SpeechDataset, skip: int) -> None:
    whole = list(training_batches(cuts, dataset, CONFIG, seed=1, epoch=2))
    rest = training_batches(cuts, dataset, CONFIG, seed=1, epoch=2, skip_batches=skip)
    assert len(rest) == len(whole) - skip
    assert_same(whole[skip:], list(rest))


def test_skipped_batches_are_not_read(cuts: CutSet, dataset: SpeechDataset, tmp_path: Path) -> None:
    batches = training_batches(cuts, dataset, CONFIG, seed=1, epoch=0)
    gone = set(batches.ids[0] + batches.ids[1])
    for cut in cuts:
        if cut.id in gone:
            cut.recording.sources[0].source = str(tmp_path / "gone.flac")
    assert list(training_batches(cuts, dataset, CONFIG, seed=1, epoch=0, skip_batches=2))


def test_ranks_share_an_epoch(cuts: CutSet, dataset: SpeechDataset) -> None:
    parts = [training_batches(cuts, dataset, CONFIG, seed=1, epoch=0, rank=rank, world_size=3) for rank in range(3)]
    assert len({len(part) for part in parts}) == 1
    assert sorted(chain(*(chain(*part.ids) for part in parts))) == sorted(cut.id for cut in cuts)


def test_speeds_change_from_epoch_to_epoch_and_depend_on_nothing_else(cuts: CutSet, dataset: SpeechDataset) -> None:
    epochs = [training_batches(cuts, dataset, CONFIG, seed=1, epoch=epoch) for epoch in range(6)]
    for cut in cuts:
        speeds = [round(cut.duration / batches.perturbed(cut).duration, 2) for batches in epochs]
        assert len(set(speeds)) > 1
        assert speeds[0] == pytest.approx(speed_factor(cut.id, [0.9, 1.0, 1.1], seed=1, epoch=0), abs=0.02)
    durations = {cut.id: cut.duration for cut in cuts}
    for batch in epochs[0]:
        expected = sum(durations[key] / speed_factor(key, [0.9, 1.0, 1.1], seed=1, epoch=0) for key in batch.ids)
        assert batch.seconds == pytest.approx(expected, abs=1e-3)
    plain = training_batches(cuts, dataset, DataConfig(speed_perturb=[], num_workers=0), seed=1, epoch=0)
    assert sum(batch.seconds for batch in plain) == pytest.approx(sum(durations.values()))


def test_evaluation_has_each_utterance_once_by_duration(cuts: CutSet, dataset: SpeechDataset) -> None:
    durations = {cut.id: cut.duration for cut in cuts}
    batches = list(evaluation_batches(cuts, dataset, CONFIG))
    order = [durations[key] for key in chain(*ids(batches))]
    assert order == sorted(durations.values(), reverse=True)
    assert all(len(batch) * durations[batch.ids[0]] <= CONFIG.max_batch_seconds for batch in batches)
    assert sum(batch.seconds for batch in batches) == pytest.approx(sum(durations.values()))


def test_the_cuts_are_left_as_they_were(cuts: CutSet, dataset: SpeechDataset) -> None:
    before = [cut.to_dict() for cut in cuts]
    list(training_batches(cuts, dataset, CONFIG, seed=1, epoch=0))
    assert [cut.to_dict() for cut in cuts] == before


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_error_in_a_worker_is_told_without_a_traceback(
    cuts: CutSet, dataset: SpeechDataset, tmp_path: Path, num_workers: int
) -> None:
    cuts[3].recording.sources[0].source = str(tmp_path / "gone.flac")
    config = DataConfig(max_batch_seconds=2.5, num_buckets=3, num_workers=num_workers)
    with pytest.raises(UserError, match=r"wav.scp:4: utterance .*gone.flac") as caught:
        list(training_batches(cuts, dataset, config, seed=1, epoch=0))
    assert "Traceback" not in str(caught.value)


def test_an_utterance_longer_than_a_batch_is_refused_by_its_line(cuts: CutSet, dataset: SpeechDataset) -> None:
    with pytest.raises(UserError, match=r"wav.scp:\d+: utterance .* more than data.max_batch_seconds=0.3"):
        training_batches(cuts, dataset, DataConfig(max_batch_seconds=0.3), seed=1, epoch=0)


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"max_batch_seconds": 0}, "max_batch_seconds"),
        ({"max_batch_size": 0}, "max_batch_size"),
        ({"num_workers": -1}, "num_workers"),
        ({"min_duration": 5, "max_duration": 4}, "min_duration"),
        ({"speed_perturb": [90]}, "speed_perturb"),
        ({"skip": ["no_words"]}, "skip"),
    ],
)
def test_options_out_of_range_are_refused_by_key(options: dict, key: str) -> None:
    with pytest.raises(UserError, match=f"data.{key}"):
        DataConfig(**options)


def test_the_options_are_a_schema() -> None:
    config = OmegaConf.merge(OmegaConf.structured(DataConfig), {"train": ["a"], "max_batch_size": 8})
    assert OmegaConf.to_object(config) == DataConfig(train=["a"], max_batch_size=8)


class Masked(SpeechDataset):
    """Says whether Ctrl-C is held back where a batch is made."""

    def __getitem__(self, cuts: CutSet) -> Batch:
        raise UserError(f"held back: {signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])}")


@pytest.mark.skipif(os.name != "posix", reason="signal masks")
@pytest.mark.parametrize("num_workers", [0, 1])
def test_workers_alone_hold_back_ctrl_c(kaldi: Path, num_workers: int) -> None:
    dataset = Masked(None, Fbank(FbankConfig(sampling_rate=8000, num_mel_bins=40)))
    config = DataConfig(max_batch_seconds=2, num_workers=num_workers)
    with pytest.raises(UserError, match=f"held back: {num_workers > 0}"):
        list(training_batches(load_corpus(kaldi).cuts, dataset, config, seed=1, epoch=0))
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


INTERRUPTED = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job starts with it ignored
from s2s.audio.fbank import Fbank, FbankConfig
from s2s.data.corpus import load_corpus
from s2s.data.dataset import SpeechDataset
from s2s.data.loader import DataConfig, training_batches
dataset = SpeechDataset(None, Fbank(FbankConfig(sampling_rate=8000, num_mel_bins=40)))
cuts = load_corpus(sys.argv[1]).cuts.repeat(5000)  # for longer than the test lasts
try:
    for batch in training_batches(cuts, dataset, DataConfig(max_batch_seconds=2, num_workers=2), seed=1, epoch=0):
        print("batch", flush=True)
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.skipif(os.name != "posix", reason="process groups")
def test_ctrl_c_stops_at_once_with_workers(kaldi: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(kaldi)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "batch\n"
        time.sleep(0.2)
        os.killpg(process.pid, signal.SIGINT)  # the whole group, as a terminal does
        _, errors = process.communicate(timeout=20)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130
    assert "KeyboardInterrupt" not in errors


class Deadly(SpeechDataset):
    """Kills the process that reads it when an utterance comes, as often as the file has room for."""

    def __init__(self, path: Path, features: Fbank, victim: str, times: int) -> None:
        super().__init__(None, features)
        self.path, self.victim, self.times = path, victim, times

    def __getitem__(self, cuts: CutSet) -> Batch:
        if self.victim in cuts.ids:
            before = self.path.read_text() if self.path.exists() else ""
            if len(before) < self.times:
                self.path.write_text(before + "x")
                os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(cuts)


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_worker_that_is_killed_is_replaced_and_nothing_is_lost(
    cuts: CutSet, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = DataConfig(max_batch_seconds=2.5, num_buckets=3, num_workers=2)
    features = Fbank(FbankConfig(sampling_rate=8000, num_mel_bins=40))
    whole = ids(training_batches(cuts, SpeechDataset(None, features), CONFIG, seed=1, epoch=0))
    victim = whole[len(whole) // 2][0]
    deadly = Deadly(tmp_path / "deaths", features, victim, 1)
    assert ids(training_batches(cuts, deadly, config, seed=1, epoch=0)) == whole
    assert "has died, others take its place (1 of" in capfd.readouterr().err
    monkeypatch.setattr("s2s.data.loader.MAX_DEATHS", 1)
    deadly = Deadly(tmp_path / "more", features, victim, 9)
    with pytest.raises(UserError, match=r"died 2 times.*data\.num_workers"):
        ids(training_batches(cuts, deadly, config, seed=1, epoch=0))


@pytest.mark.parametrize(("world_size", "num_workers"), [*((n, 0) for n in range(1, 9)), (1, 3), (2, 3)])
def test_every_utterance_is_once_in_an_epoch_for_any_ranks_and_workers(
    cuts: CutSet, dataset: SpeechDataset, world_size: int, num_workers: int
) -> None:
    config = DataConfig(max_batch_seconds=2.5, num_buckets=3, num_workers=num_workers)
    ranks = [
        ids(training_batches(cuts, dataset, config, seed=1, epoch=0, rank=rank, world_size=world_size))
        for rank in range(world_size)
    ]
    assert len({len(rank) for rank in ranks}) == 1
    assert sorted(chain(*chain(*ranks))) == sorted(cut.id for cut in cuts)


@pytest.mark.parametrize("others", [[(2, 2)], [(1, 3), (4, 1)], [(8, 1), (2, 1)]])
def test_an_epoch_that_other_numbers_of_ranks_have_begun_has_every_utterance_once(
    cuts: CutSet, dataset: SpeechDataset, others: list[tuple[int, int]]
) -> None:
    seen: list[str] = []
    for number, (ranks, batches) in enumerate([*others, (3, 10**6)]):
        for rank in range(ranks):
            own = training_batches(
                cuts, dataset, CONFIG, seed=1, epoch=0, rank=rank, world_size=ranks, earlier=others[:number]
            )
            seen += chain(*own.ids[:batches])
    assert sorted(set(seen)) == sorted(cut.id for cut in cuts)
    assert len(seen) <= len(cuts) + 3  # ranks that have nothing left to share out repeat one
