from __future__ import annotations

from itertools import chain

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2s.data.buckets import bucketed, by_duration, share

durations = st.lists(st.floats(0.1, 40), min_size=1, max_size=60).map(
    lambda values: {f"u{i}": value for i, value in enumerate(values)}
)


@settings(max_examples=60, deadline=None)
@given(durations, st.floats(5, 100), st.none() | st.integers(1, 8), st.integers(1, 12), st.integers(0, 99))
def test_every_id_is_once_in_a_batch_within_the_budget(durations, max_seconds, max_size, num_buckets, seed) -> None:
    for batches in (
        bucketed(durations, max_seconds, max_size, num_buckets, seed),
        by_duration(durations, max_seconds, max_size),
    ):
        assert sorted(chain(*batches)) == sorted(durations)
        for batch in batches:
            padded = len(batch) * max(durations[key] for key in batch)
            assert padded <= max_seconds * (1 + 1e-9) or len(batch) == 1
            assert max_size is None or len(batch) <= max_size


def test_the_seed_decides_the_order() -> None:
    lengths = {f"u{i}": 1 + i % 17 for i in range(300)}
    assert bucketed(lengths, 60, None, 5, seed=3) == bucketed(lengths, 60, None, 5, seed=3)
    assert bucketed(lengths, 60, None, 5, seed=3) != bucketed(lengths, 60, None, 5, seed=4)


def test_buckets_leave_little_padding() -> None:
    lengths = {f"u{i}": 1 + (i * 7919 % 1000) / 50 for i in range(1000)}
    padded = sum(len(b) * max(lengths[k] for k in b) for b in bucketed(lengths, 200, None, 20, seed=0))
    assert padded < 1.1 * sum(lengths.values())


@settings(max_examples=60, deadline=None)
@given(durations, st.integers(1, 7))
def test_ranks_get_equally_many_batches_and_share_all_ids(durations, world_size) -> None:
    batches = by_duration(durations, 50, None)
    parts = [share(batches, rank, world_size) for rank in range(world_size)]
    assert len({len(part) for part in parts}) == 1
    ids = list(chain(*chain(*parts)))
    assert set(ids) == set(durations)
    if len(durations) >= len(batches) + world_size:  # enough to cut in two
        assert len(ids) == len(durations)
    longest = max(len(batch) * max(durations[key] for key in batch) for batch in batches)
    assert all(len(b) * max(durations[key] for key in b) <= longest for b in chain(*parts))


@pytest.mark.parametrize("world_size", [1, 3])
def test_nothing_gives_no_batches(world_size: int) -> None:
    assert bucketed({}, 10, None, 3, 0) == by_duration({}, 10, None) == share([], 0, world_size) == []
