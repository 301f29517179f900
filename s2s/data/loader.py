"""The batches of an epoch, and those of an evaluation."""

from __future__ import annotations

import random
import signal
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from lhotse import CutSet
from lhotse.cut import Cut
from torch.utils.data import DataLoader, Dataset

from s2s.data.batch import Batch
from s2s.data.buckets import BatchSize, Lengths, bucketed, budget, by_length, going_on, share
from s2s.data.cuts import origin
from s2s.data.dataset import SpeechDataset
from s2s.data.problems import check_kinds
from s2s.data.shar import batches_with_audio, planned, shards_of
from s2s.data.surroundings import Surroundings, SurroundingsConfig
from s2s.errors import UserError

MAX_DEATHS = 5  # of processes that read audio, in an epoch


@dataclass(frozen=True)
class DataConfig:
    """Corpora and how they are put into batches.

    Attributes:
        train: Kaldi data directories, Lhotse cuts (.jsonl.gz) or shar:DIR for folders of Lhotse Shar, joined.
        valid: the same, to validate on.
        max_batch_seconds: audio in a batch, padding counted.
        max_batch_size: utterances in a batch, None for no limit but `max_batch_seconds`.
        num_buckets: utterances of a batch come from one of that many ranges of duration, fewer for data of few batches.
        num_target_buckets: and from one of that many ranges of number of tokens within it.
        shards_at_once: of shar:DIR, shards whose utterances are mixed; their audio is held in memory, as compressed.
        speed_perturb: factors of which each utterance gets one each epoch; none or [1.0] leaves the speed alone.
        min_duration: seconds; a shorter utterance is a `too_short` problem.
        max_duration: seconds; a longer utterance is a `too_long` problem.
        num_workers: processes that read audio; 0 reads in the main one.
        skip: kinds of problems whose utterances are left out; any other kind stops.
        max_bad_audio: utterances of an epoch whose audio may turn out not to be readable in training: each is named and
            left out; one more stops.
        alignments: file of `s2s align --ends` with all utterances, from which a segmental model learns where its
            segments end; null: from its own CTC output.
        pairs: of a model that translates: from what to what, such as en-de; en-en is recognition.
        surroundings: noise and rooms that training utterances get.
        draw_direction: an utterance that is there in several of the pairs is trained on once an epoch, in one of them.
        plain_share: share of the training utterances whose target is in lower case and without punctuation, as a model
            with prompts is told.
    """

    train: list[str] = field(default_factory=list)
    valid: list[str] = field(default_factory=list)
    max_batch_seconds: float = 200.0
    max_batch_size: int | None = None
    num_buckets: int = 16
    num_target_buckets: int = 8
    shards_at_once: int = 4
    speed_perturb: list[float] = field(default_factory=lambda: [0.9, 1.0, 1.1])
    min_duration: float = 0.1
    max_duration: float = 30.0
    num_workers: int = 2
    skip: list[str] = field(default_factory=lambda: ["too_short", "too_long"])
    max_bad_audio: int = 20
    alignments: str | None = None
    pairs: list[str] = field(default_factory=list)
    plain_share: float = 0.0
    draw_direction: bool = False
    surroundings: SurroundingsConfig = field(default_factory=SurroundingsConfig)

    def __post_init__(self) -> None:
        for name in ("max_batch_seconds", "num_buckets", "num_target_buckets", "shards_at_once", "max_duration"):
            if getattr(self, name) <= 0:
                raise UserError(f"data.{name} is {getattr(self, name)}; expected more than 0")
        if self.max_batch_size is not None and self.max_batch_size < 1:
            raise UserError(f"data.max_batch_size is {self.max_batch_size}; expected 1 or more, or null for no limit")
        if self.num_workers < 0:
            raise UserError(f"data.num_workers is {self.num_workers}; expected 0 or more")
        if not 0 <= self.min_duration < self.max_duration:
            raise UserError(f"data.min_duration is {self.min_duration}; expected 0 to data.max_duration")
        if not 0.0 <= self.plain_share <= 1.0:
            raise UserError(f"data.plain_share is {self.plain_share}; expected a share, from 0 to 1")
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
    earlier: Sequence[tuple[int, int]] = (),
    size: BatchSize | None = None,
    surroundings: Surroundings | None = None,
) -> Batches:
    """The batches of one epoch, each utterance once, in an order that `seed` and `epoch` alone decide.

    Any `num_workers` gives the same batches. `len()` of the result is how many are to come. `skip_batches` leaves out
    the first ones without reading them, to go on where training stopped. Each rank gets as many as the others;
    `earlier` is what other numbers of ranks have done of the epoch (see `going_on`). `size` is for batch sizes that
    were measured, in place of `max_batch_seconds`. `surroundings` are what utterances are put into.
    Raises UserError for an utterance that is longer than a batch may be.
    """
    factors = {cut.id: speed_factor(cut.id, config.speed_perturb, seed, epoch) for cut in cuts}
    lengths = lengths_of(cuts, dataset, factors)
    for cut in cuts if size is None else ():
        if lengths[cut.id][0] > config.max_batch_seconds:
            raise UserError(
                f"{origin(cut)}: utterance {cut.id} lasts {lengths[cut.id][0]:.1f} s, more than "
                f"data.max_batch_seconds={config.max_batch_seconds:g}; raise that or lower data.max_duration"
            )
    order = random.Random(f"{seed} {epoch}").getrandbits(32)
    sizes = size or speech_budget(config)

    def batches_of(some: Mapping[str, Lengths], chance: int) -> list[list[str]]:
        return bucketed(some, sizes, config.num_buckets, config.num_target_buckets, chance)

    shards = shards_of(cuts)

    def plan(some: Mapping[str, Lengths], rank: int, world_size: int) -> list[list[str]]:
        if shards:
            return planned(some, shards, batches_of, config.shards_at_once, order, rank, world_size)
        return share(batches_of(some, order), rank, world_size, some, order)

    ids = going_on(lengths, plan, rank, world_size, earlier)[skip_batches:]

    def perturbed(cut: Cut) -> Cut:
        if factors[cut.id] != 1.0:
            cut = cut.perturb_speed(factors[cut.id], affix_id=False)
        return surroundings.around(cut, seed, epoch) if surroundings else cut

    return Batches(dataset, {cut.id: cut for cut in cuts}, ids, config.num_workers, perturbed)


def evaluation_batches(cuts: CutSet, dataset: SpeechDataset, config: DataConfig) -> Batches:
    """Each utterance once, from the longest to the shortest, in batches under the same budget as in training.

    Those of shards (see `s2s.data.shar`) come shard by shard. An utterance that is longer than a batch may be is alone
    in its batch.
    """
    lengths, shards = lengths_of(cuts, dataset, {}), shards_of(cuts)
    groups = defaultdict[str | None, dict[str, Lengths]](dict)  # a shard after another
    for key, length in lengths.items():
        groups[shards.get(key)][key] = length
    ids = [batch for group in groups.values() for batch in by_length(group, speech_budget(config))]
    return Batches(dataset, {cut.id: cut for cut in cuts}, ids, config.num_workers)


def speech_budget(config: DataConfig) -> BatchSize:
    """How many utterances of some seconds and tokens make a batch."""
    return budget(config.max_batch_seconds, config.max_batch_size, lambda seconds, tokens: seconds)


def lengths_of(cuts: CutSet, dataset: SpeechDataset, factors: Mapping[str, float]) -> dict[str, Lengths]:
    """Seconds and tokens of each utterance, at its speed (1 where none is given)."""
    return {cut.id: (cut.duration / factors.get(cut.id, 1.0), dataset.num_tokens(cut)) for cut in cuts}


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
        num_workers: processes that make batches.
        perturbed: what is done to an utterance when its turn comes.
    """

    dataset: SpeechDataset
    cuts: dict[str, Cut]
    ids: list[list[str]]
    num_workers: int
    perturbed: Callable[[Cut], Cut] = lambda cut: cut

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[Batch]:
        done = deaths = 0
        while done < len(self.ids):
            try:
                for outcome in self._outcomes(self.ids[done:]):
                    if isinstance(outcome, UserError):
                        raise outcome
                    done += 1
                    yield outcome
            except (RuntimeError, OSError, EOFError) as error:  # the last two: what it had sent is gone with it
                if not self.num_workers or (isinstance(error, RuntimeError) and "DataLoader worker" not in str(error)):
                    raise
                deaths += 1
                if deaths > MAX_DEATHS:
                    raise UserError(
                        f"processes that read audio have died {deaths} times: out of memory? Lower data.num_workers, "
                        "or read in the main process (data.num_workers=0)"
                    ) from error
                print(
                    f"s2s: a process that reads audio has died, others take its place ({deaths} of {MAX_DEATHS} times)",
                    file=sys.stderr,
                )

    def _outcomes(self, ids: list[list[str]]) -> Iterator[Batch | UserError]:
        loader: DataLoader[Batch | UserError] = DataLoader(
            _Outcomes(self.dataset),
            sampler=_Perturbed(self.cuts, ids, self.perturbed),
            batch_size=None,
            num_workers=self.num_workers,
            generator=torch.Generator(),  # else it would draw from, and so change, the global one
        )
        with _signals_held():
            outcomes = iter(loader)
        yield from outcomes


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
    perturbed: Callable[[Cut], Cut]

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[CutSet]:
        for batch in batches_with_audio([[self.cuts[key] for key in batch] for batch in self.ids]):
            yield CutSet.from_cuts(map(self.perturbed, batch))


@contextmanager
def _signals_held() -> Iterator[None]:
    """Ctrl-C reaches every process of a terminal: workers begun in here never see it, the main one does afterwards.

    That a worker has died is told by the loader when it waits for it, and not, as torch has it, wherever the main
    process may be.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    on_death = signal.getsignal(signal.SIGCHLD)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread() and on_death is not None:
            signal.signal(signal.SIGCHLD, on_death)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
