"""Which utterances go into a batch together."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import numpy as np
from lhotse import MonoCut
from lhotse.dataset.sampling.dynamic_bucketing import DynamicBucketingSampler, FixedBucketBatchSizeConstraint

BUFFER = 20_000  # cuts Lhotse chooses from at a time


def bucketed(
    durations: Mapping[str, float], max_seconds: float, max_size: int | None, num_buckets: int, seed: int
) -> list[list[str]]:
    """Batches of ids of about the same duration, in random order; every id once, the same for the same seed.

    A batch takes at most `max_seconds`, its padding counted (an utterance that is longer by itself is alone), and at
    most `max_size` utterances. Lhotse's bucketing, with a batch size fixed for each bucket: summed durations (Lhotse's
    `max_duration`) would let one long utterance pad the whole batch.
    """
    if not durations:
        return []
    longest = max(durations.values())
    quantiles = np.quantile(list(durations.values()), np.arange(1, num_buckets) / num_buckets)
    edges = sorted({edge for edge in quantiles.tolist() if edge < longest})
    tops = [*edges, longest]
    shuffled = list(durations)
    random.Random(seed).shuffle(shuffled)
    sampler = DynamicBucketingSampler(
        [MonoCut(id=key, start=0.0, duration=durations[key], channel=0, supervisions=[]) for key in shuffled],
        constraint=FixedBucketBatchSizeConstraint(tops, [batch_size(top, max_seconds, max_size) for top in tops]),
        duration_bins=edges,
        shuffle=True,
        buffer_size=BUFFER,
        sync_buckets=True,  # without it the last partial batches are lost (Lhotse 1.33)
        seed=seed,
        world_size=1,
        rank=0,
    )
    batches = [[cut.id for cut in batch] for batch in sampler]
    random.Random(seed).shuffle(batches)  # Lhotse draws the buckets in the same order whatever the seed
    return batches


def by_duration(durations: Mapping[str, float], max_seconds: float, max_size: int | None) -> list[list[str]]:
    """Batches of ids from the longest to the shortest, under the same budget as `bucketed`; every id once."""
    batches: list[list[str]] = []
    for key in sorted(durations, key=lambda key: (-durations[key], key)):
        # The first of a batch is its longest.
        if batches and len(batches[-1]) < batch_size(durations[batches[-1][0]], max_seconds, max_size):
            batches[-1].append(key)
        else:
            batches.append([key])
    return batches


def batch_size(longest: float, max_seconds: float, max_size: int | None) -> int:
    """How many utterances of at most `longest` seconds fit, at least one."""
    fitting = max(1, int(max_seconds / longest))
    return fitting if max_size is None else min(fitting, max_size)


def share(batches: Sequence[list[str]], rank: int, world_size: int) -> list[list[str]]:
    """Every `world_size`-th batch, as many for each rank.

    What is missing is made by cutting the largest batches in two; only where all hold one utterance are some repeated.
    """
    batches = list(batches)
    while batches and len(batches) % world_size:
        largest = max(range(len(batches)), key=lambda index: len(batches[index]))
        whole = batches[largest]
        half = (len(whole) + 1) // 2
        batches[largest : largest + 1] = [whole[:half], whole[half:] or whole]
    return batches[rank::world_size]
