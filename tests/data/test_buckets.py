from __future__ import annotations

import random
from collections import Counter
from itertools import chain, combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2s.data.buckets import Buckets, at_random, bucketed, budget, by_length, share
from s2s.data.padding import padding

pairs = st.tuples(st.floats(0.1, 40), st.integers(0, 30))
lengths_of_some = st.lists(pairs, min_size=1, max_size=60).map(
    lambda values: {f"u{i}": value for i, value in enumerate(values)}
)


def of_sizes(number: int, seed: int = 0) -> dict[str, tuple[float, float]]:
    """Sources of 1 to 20, targets of 1 to 3 times as long."""
    chance = random.Random(seed)
    sources = [chance.uniform(1, 20) for _ in range(number)]
    return {f"u{i}": (source, round(source * chance.uniform(1, 3))) for i, source in enumerate(sources)}


@settings(max_examples=40)
@given(lengths_of_some, st.floats(5, 100), st.none() | st.integers(1, 8), st.integers(1, 12), st.integers(0, 99))
def test_every_id_is_once_in_a_batch_within_the_budget(lengths, most, max_size, num_buckets, seed) -> None:
    size = budget(most, max_size)
    for batches in (
        bucketed(lengths, size, num_buckets, 3, seed),
        by_length(lengths, size),
        at_random(lengths, size, seed),
    ):
        assert sorted(chain(*batches)) == sorted(lengths)
        for batch in batches:
            padded = len(batch) * max(max(lengths[key]) for key in batch)
            assert padded <= most * (1 + 1e-9) or len(batch) == 1
            assert max_size is None or len(batch) <= max_size


@settings(max_examples=30)
@given(lengths_of_some, st.integers(1, 6), st.integers(1, 4), st.integers(0, 9))
def test_buckets_hold_what_is_no_longer_than_their_ends(lengths, num_sources, num_targets, seed) -> None:
    buckets = Buckets.of(list(lengths.values()), num_sources, num_targets, random.Random(seed))
    tops = buckets.tops()
    assert len(buckets.sources) <= num_sources
    assert len(tops) <= num_sources * num_targets
    assert max(top[0] for top in tops) == max(source for source, _ in lengths.values())
    for key, number in buckets.numbers(lengths).items():
        source, target = lengths[key]
        assert source <= tops[number][0]
        assert target <= tops[number][1]
        if number and tops[number - 1][0] == tops[number][0]:
            assert target > tops[number - 1][1]
        else:
            assert all(top[0] < source for top in tops[:number])


def test_ranges_of_length_have_equal_sums() -> None:
    lengths = [(float(n), 1.0) for n in range(1, 1001)]
    ends = Buckets.of(lengths, 4, 1).sources
    sums = [sum(n for n in range(1, 1001) if low < n <= high) for low, high in zip([0.0, *ends], ends, strict=False)]
    assert sums == pytest.approx([500500 / 4] * 4, rel=0.01)


def test_the_seed_decides_the_order() -> None:
    lengths, size = of_sizes(300), budget(60, None)
    assert bucketed(lengths, size, 5, 2, seed=3) == bucketed(lengths, size, 5, 2, seed=3)
    assert bucketed(lengths, size, 5, 2, seed=3) != bucketed(lengths, size, 5, 2, seed=4)


def test_two_dimensions_leave_less_padding_than_one_and_one_less_than_chance() -> None:
    lengths, size = of_sizes(4000), budget(300, None)
    two, one, none = (
        padding(batches, lengths)
        for batches in (
            bucketed(lengths, size, 16, 8, 0),
            bucketed(lengths, size, 16, 1, 0),
            at_random(lengths, size, 0),
        )
    )
    assert max(two.source, two.target) < 0.07
    assert one.target > 2 * two.target
    assert none.both > 1.5 * one.both
    assert none.source > 0.3


def test_who_is_together_changes_from_seed_to_seed() -> None:
    lengths, size = of_sizes(1000), budget(200, None)
    counts = Counter[tuple[str, str]]()
    for seed in range(20):
        for batch in bucketed(lengths, size, 16, 8, seed):
            counts.update(combinations(sorted(batch), 2))
    always = [pair for pair, count in counts.items() if count == 20]
    assert len(always) < 0.01 * len(counts)  # the very longest
    # the ends of the buckets move: were they fixed, only pairs of one bucket could ever meet
    buckets = Buckets.of(list(lengths.values()), 16, 8).numbers(lengths)
    assert any(buckets[one] != buckets[other] for one, other in counts)


def test_data_of_few_batches_has_few_buckets() -> None:
    lengths = of_sizes(48)
    batches = bucketed(lengths, budget(1e9, 12), 16, 8, 0)
    assert len(batches) <= 8  # and not 48, one for each bucket


@settings(max_examples=60)
@given(lengths_of_some, st.integers(1, 8))
def test_ranks_get_equally_many_batches_and_share_all_ids(lengths, world_size) -> None:
    batches = by_length(lengths, budget(50, None))
    parts = [share(batches, rank, world_size, lengths, 3) for rank in range(world_size)]
    assert len({len(part) for part in parts}) == 1
    ids = list(chain(*chain(*parts)))
    assert set(ids) == set(lengths)
    if len(lengths) >= len(batches) + world_size:  # enough to cut in two
        assert len(ids) == len(lengths)
    longest = max(len(batch) * max(max(lengths[key]) for key in batch) for batch in batches)
    assert all(len(b) * max(max(lengths[key]) for key in b) <= longest for b in chain(*parts))


def test_ranks_have_batches_of_about_the_same_length_in_each_step() -> None:
    lengths, size = of_sizes(2000), budget(100, None)
    batches = bucketed(lengths, size, 16, 8, 1)
    ranks = [share(batches, rank, 4, lengths, 7) for rank in range(4)]
    tops = [[max(lengths[key][0] for key in batch) for batch in rank] for rank in ranks]
    waiting = [max(step) - min(step) for step in zip(*tops, strict=True)]
    assert sum(waiting) / len(waiting) < 0.5
    assert tops[0] != sorted(tops[0])


@pytest.mark.parametrize("world_size", [1, 3])
def test_nothing_gives_no_batches(world_size: int) -> None:
    size = budget(10, None)
    assert bucketed({}, size, 3, 2, 0) == by_length({}, size) == share([], 0, world_size, {}, 0) == []
