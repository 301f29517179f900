"""Which utterances go into a batch together: those of about the same source and target length."""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from lhotse import MonoCut
from lhotse.cut import Cut
from lhotse.dataset.sampling.dynamic_bucketing import DynamicBucketingSampler, FixedBucketBatchSizeConstraint

BUFFER = 20_000  # cuts Lhotse chooses from at a time, at least

Lengths = tuple[float, float]  # of the source and of the target
BatchSize = Callable[[float, float], int]  # how many utterances of at most these lengths make a batch, at least one


@dataclass(frozen=True)
class Buckets:
    """Ranges of source length, and within each of them ranges of target length, by their upper ends."""

    sources: list[float]
    targets: list[list[float]]

    @classmethod
    def of(
        cls, lengths: Sequence[Lengths], num_sources: int, num_targets: int, chance: random.Random | None = None
    ) -> Buckets:
        """Ranges that hold about equally many of `lengths`; their ends, but the last, are moved by `chance`.

        As in Żelasko et al. 2025, "Training and inference efficiency of encoder-decoder speech models"
        (arXiv:2503.05931), section 3.
        """
        sources = _ends([source for source, _ in lengths], num_sources, chance)
        own: list[list[float]] = [[] for _ in sources]
        for source, target in lengths:
            own[bisect_left(sources, source)].append(target)
        return cls(sources, [_ends(targets, num_targets, chance) for targets in own])

    def tops(self) -> list[Lengths]:
        """The largest lengths of each bucket."""
        return [
            (source, target) for source, targets in zip(self.sources, self.targets, strict=True) for target in targets
        ]

    def numbers(self, lengths: Mapping[str, Lengths]) -> dict[str, int]:
        """The bucket of each utterance, counted from 0 in the order of `tops`."""
        firsts = np.cumsum([0, *map(len, self.targets)]).tolist()
        found = {}
        for key, (source, target) in lengths.items():
            row = bisect_left(self.sources, source)
            found[key] = firsts[row] + bisect_left(self.targets[row], target)
        return found


def bucketed(
    lengths: Mapping[str, Lengths], size: BatchSize, num_sources: int, num_targets: int, seed: int
) -> list[list[str]]:
    """Batches of ids of about the same lengths, in random order; every id once, the same for the same seed.

    There are at most `num_sources` ranges of source length with `num_targets` of target length each, fewer for data of
    few batches; where they end is moved by chance, so that no two utterances are kept apart, or together, for good.
    Lhotse's bucketing, with a batch size fixed for each bucket: summed durations (Lhotse's `max_duration`) would let
    one long utterance pad the whole batch.
    """
    if not lengths:
        return []
    chance = random.Random(seed)
    buckets = Buckets.of(list(lengths.values()), *_fewer(lengths, size, num_sources, num_targets), chance)
    tops = buckets.tops()
    sizes = [size(*top) for top in tops]
    shuffled = list(lengths)
    chance.shuffle(shuffled)
    sampler = DynamicBucketingSampler(
        [MonoCut(id=key, start=0.0, duration=1.0, channel=0, supervisions=[]) for key in shuffled],
        constraint=_ByNumber(list(range(len(tops))), sizes, numbers=buckets.numbers(lengths)),
        duration_bins=list(range(len(tops) - 1)),
        shuffle=True,
        buffer_size=max(BUFFER, 2 * sum(sizes)),
        sync_buckets=True,  # without it the last partial batches are lost (Lhotse 1.33)
        seed=seed,
        world_size=1,
        rank=0,
    )
    batches = [[cut.id for cut in batch] for batch in sampler]
    random.Random(seed).shuffle(batches)  # Lhotse draws the buckets in the same order whatever the seed
    return batches


def by_length(lengths: Mapping[str, Lengths], size: BatchSize) -> list[list[str]]:
    """Batches of ids from the longest source to the shortest, under the same budget as `bucketed`; every id once."""
    return _filled(sorted(lengths, key=lambda key: (*(-length for length in lengths[key]), key)), lengths, size)


def at_random(lengths: Mapping[str, Lengths], size: BatchSize, seed: int) -> list[list[str]]:
    """Batches of ids in random order under the same budget: what is wasted without buckets."""
    keys = list(lengths)
    random.Random(seed).shuffle(keys)
    return _filled(keys, lengths, size)


def budget(most: float, max_size: int | None, length: Callable[[float, float], float] = max) -> BatchSize:
    """Batches that take at most `most`, padding counted, where an utterance takes the `length` of its two lengths.

    An utterance that is longer by itself is alone.
    """

    def size(source: float, target: float) -> int:
        fitting = max(1, int(most / max(length(source, target), 1e-9)))
        return fitting if max_size is None else min(fitting, max_size)

    return size


def share(
    batches: Sequence[list[str]], rank: int, world_size: int, lengths: Mapping[str, Lengths], seed: int
) -> list[list[str]]:
    """The batches of one rank: as many as each other has, and in each step of about the same lengths as theirs.

    What is missing is made by cutting the largest batches in two; only where all hold one utterance are some repeated.
    """
    if world_size == 1:
        return list(batches)
    batches = cut_to(batches, -(-len(batches) // world_size) * world_size)
    batches.sort(key=lambda batch: _longest(batch, lengths))
    steps = [batches[first : first + world_size] for first in range(0, len(batches), world_size)]
    random.Random(seed).shuffle(steps)
    return [step[rank] for step in steps]


Plan = Callable[[Mapping[str, Lengths], int, int], list[list[str]]]  # of some utterances, for a rank of so many


def going_on(
    lengths: Mapping[str, Lengths], plan: Plan, rank: int, world_size: int, earlier: Sequence[tuple[int, int]] = ()
) -> list[list[str]]:
    """The batches of a rank in an epoch that other numbers of ranks have begun; every id is once in all of them.

    `earlier` says how many ranks there were, one after another, and how many batches of theirs each has done.
    """
    for ranks, batches in earlier:
        done = {key for each in range(ranks) for batch in plan(lengths, each, ranks)[:batches] for key in batch}
        lengths = {key: length for key, length in lengths.items() if key not in done}
    return plan(lengths, rank, world_size)


def cut_to(batches: Sequence[list[str]], number: int) -> list[list[str]]:
    """So many batches, by cutting the largest in two; where all hold one utterance, some are repeated."""
    batches = list(batches)
    while batches and len(batches) < number:
        largest = max(range(len(batches)), key=lambda index: len(batches[index]))
        whole = batches[largest]
        half = (len(whole) + 1) // 2
        batches[largest : largest + 1] = [whole[:half], whole[half:] or whole]
    return batches


@dataclass
class _ByNumber(FixedBucketBatchSizeConstraint):
    """Buckets that are known by their numbers."""

    numbers: dict[str, int] = field(default_factory=dict)

    def measure_length(self, example: Cut) -> float:
        return self.numbers[example.id]


def _ends(values: Sequence[float], number: int, chance: random.Random | None) -> list[float]:
    """The upper ends of `number` ranges or fewer, whose values have about equal sums; the last is the largest value."""
    longest = max(values)
    if number == 1:
        return [longest]
    ordered = np.sort(values)
    sums = np.cumsum(ordered)
    if chance is None:
        shares = np.arange(1, number) / number
    else:  # the first and the last range are together as large as another
        shares = (np.arange(number - 1) + chance.random()) / (number - 1)
    ends = ordered[np.searchsorted(sums, shares * sums[-1])].tolist()
    return [*sorted({end for end in ends if end < longest}), longest]


def _fewer(lengths: Mapping[str, Lengths], size: BatchSize, num_sources: int, num_targets: int) -> tuple[int, int]:
    """As many ranges, or as few as leave a batch for each bucket."""
    batches = max(1.0, sum(1 / size(*each) for each in lengths.values()))
    if num_sources * num_targets <= batches:
        return num_sources, num_targets
    num_targets = max(1, round(num_targets * (batches / (num_sources * num_targets)) ** 0.5))
    return min(num_sources, max(1, int(batches / num_targets))), num_targets


def _filled(keys: Sequence[str], lengths: Mapping[str, Lengths], size: BatchSize) -> list[list[str]]:
    batches: list[list[str]] = []
    top = (0.0, 0.0)
    for key in keys:
        source, target = lengths[key]
        wider = max(top[0], source), max(top[1], target)
        if batches and len(batches[-1]) < size(*wider):
            batches[-1].append(key)
            top = wider
        else:
            batches.append([key])
            top = source, target
    return batches


def _longest(batch: Sequence[str], lengths: Mapping[str, Lengths]) -> Lengths:
    return max(lengths[key][0] for key in batch), max(lengths[key][1] for key in batch)
