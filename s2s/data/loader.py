"""The batches of an epoch, and those of an evaluation."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from lhotse import CutSet
from lhotse.cut import Cut
from torch.utils.data import DataLoader, Dataset

from s2s.data.batch import Batch
from s2s.data.buckets import bucketed, by_duration, share
from s2s.data.cuts import origin
from s2s.data.dataset import SpeechDataset
from s2s.data.problems import check_kinds
from s2s.errors import UserError


@dataclass(frozen=True)
class DataConfig:
    """Corpora and how they are put into batches.

    Attributes:
        train: Kaldi data directories or Lhotse cuts (.jsonl.gz), joined.
        valid: the same, to validate on.
        max_batch_seconds: audio in a batch, padding counted.
        max_batch_size: utterances in a batch, None for no limit but `max_batch_seconds`.
        num_buckets: utterances of a batch come from one of that many ranges of duration.
        speed_perturb: factors of which each utterance gets one each epoch; none or [1.0] leaves the speed alone.
        min_duration: seconds; a shorter utterance is a `too_short` problem.
        max_duration: seconds; a longer utterance is a `too_long` problem.
        num_workers: processes that read audio; 0 reads in the main one.
        skip: kinds of problems whose utterances are left out; any other kind stops.
        alignments: file of `s2s align --ends` with all utterances, from which a segmental model learns where its
            segments end; null: from its own CTC output.
    """

    train: list[str] = field(default_factory=list)
    valid: list[str] = field(default_factory=list)
    max_batch_seconds: float = 200.0
    max_batch_size: int | None = None
    num_buckets: int = 30
    speed_perturb: list[float] = field(default_factory=lambda: [0.9, 1.0, 1.1])
    min_duration: float = 0.1
    max_duration: float = 30.0
    num_workers: int = 2
    skip: list[str] = field(default_factory=lambda: ["too_short", "too_long"])
    alignments: str | None = None

    def __post_init__(self) -> None:
        for name in ("max_batch_seconds", "num_buckets", "max_duration"):
            if getattr(self, name) <= 0:
                raise UserError(f"data.{name} is {getattr(self, name)}; expected more than 0")
        if self.max_batch_size is not None and self.max_batch_size < 1:
            raise UserError(f"data.max_batch_size is {self.max_batch_size}; expected 1 or more, or null for no limit")
        if self.num_workers < 0:
            raise UserError(f"data.num_workers is {self.num_workers}; expected 0 or more")
        if not 0 <= self.min_duration < self.max_duration:
            raise UserError(f"data.min_duration is {self.min_duration}; expected 0 to data.max_duration")
        if any(not 0.1 <= factor <= 10 for factor in self.speed_perturb):
            raise UserError(
                f"data.speed_perturb is {list(self.speed_perturb)}; expected factors such as [0.9, 1.0, 1.1]"
            )
        check_kinds(self.skip)


def training_batches(
    cuts: CutSet,
    dataset: SpeechDataset,
    config: DataConfig,
    *,
    seed: int,
    epoch: int,
    skip_batches: int = 0,
    rank: int = 0,
    world_size: int = 1,
) -> Batches:
    """The batches of one epoch, each utterance once, in an order that `seed` and `epoch` alone decide.

    Any `num_workers` gives the same batches. `len()` of the result is how many are to come. `skip_batches` leaves out
    the first ones without reading them, to go on where training stopped. Each rank gets as many as the others.
    Raises UserError for an utterance that is longer than a batch may be.
    """
    factors = {cut.id: speed_factor(cut.id, config.speed_perturb, seed, epoch) for cut in cuts}
    durations = {cut.id: cut.duration / factors[cut.id] for cut in cuts}
    for cut in cuts:
        if durations[cut.id] > config.max_batch_seconds:
            raise UserError(
                f"{origin(cut)}: utterance {cut.id} lasts {durations[cut.id]:.1f} s, more than "
                f"data.max_batch_seconds={config.max_batch_seconds:g}; raise that or lower data.max_duration"
            )
    order = random.Random(f"{seed} {epoch}").getrandbits(32)
    batches = bucketed(durations, config.max_batch_seconds, config.max_batch_size, config.num_buckets, order)
    ids = share(batches, rank, world_size)[skip_batches:]
    return Batches(dataset, {cut.id: cut for cut in cuts}, ids, factors, config.num_workers)


def evaluation_batches(cuts: CutSet, dataset: SpeechDataset, config: DataConfig) -> Batches:
    """Each utterance once, from the longest to the shortest, in batches under the same budget as in training.

    An utterance that is longer than a batch may be is alone in its batch.
    """
    ids = by_duration({cut.id: cut.duration for cut in cuts}, config.max_batch_seconds, config.max_batch_size)
    return Batches(dataset, {cut.id: cut for cut in cuts}, ids, {}, config.num_workers)


def speed_factor(cut_id: str, factors: Iterable[float], seed: int, epoch: int) -> float:
    """The speed of an utterance in an epoch: whatever else is in the corpus, whatever the order."""
    return random.Random(f"{seed} {epoch} {cut_id}").choice(list(factors) or [1.0])


@dataclass(frozen=True)
class Batches:
    """Batches to come: iterated as often as one likes, always the same; `len()` is how many.

    Attributes:
        dataset: makes a batch of cuts.
        cuts: every utterance by id.
        ids: the utterances of each batch.
        factors: the speed of an utterance; 1 for one that is not named.
        num_workers: processes that make batches.
    """

    dataset: SpeechDataset
    cuts: dict[str, Cut]
    ids: list[list[str]]
    factors: dict[str, float]
    num_workers: int

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[Batch]:
        loader: DataLoader[Batch | UserError] = DataLoader(
            _Outcomes(self.dataset),
            sampler=_Perturbed(self.cuts, self.ids, self.factors),
            batch_size=None,
            num_workers=self.num_workers,
            generator=torch.Generator(),  # else it would draw from, and so change, the global one
        )
        with _interrupts_held():
            outcomes = iter(loader)
        for outcome in outcomes:
            if isinstance(outcome, UserError):
                raise outcome
            yield outcome


class _Outcomes(Dataset["Batch | UserError"]):
    """Errors as values: a `DataLoader` would wrap what a worker raises in a traceback."""

    def __init__(self, dataset: SpeechDataset) -> None:
        self.dataset = dataset

    def __getitem__(self, cuts: CutSet) -> Batch | UserError:
        try:
            return self.dataset[cuts]
        except UserError as error:
            return error


@dataclass(frozen=True)
class _Perturbed:
    """The cuts of each batch, perturbed only when their turn comes."""

    cuts: dict[str, Cut]
    ids: list[list[str]]
    factors: dict[str, float]

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[CutSet]:
        for batch in self.ids:
            yield CutSet.from_cuts(self._perturbed(key) for key in batch)

    def _perturbed(self, key: str) -> Cut:
        factor = self.factors.get(key, 1.0)
        return self.cuts[key] if factor == 1.0 else self.cuts[key].perturb_speed(factor, affix_id=False)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C reaches every process of a terminal: workers begun in here never see it, the main one does afterwards."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
