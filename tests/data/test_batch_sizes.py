from __future__ import annotations

from pathlib import Path

import pytest

from s2s.data.batch_sizes import BatchSizes, keep_sizes, load_sizes, place

SIZES = BatchSizes([(5.0, 10.0), (5.0, 20.0), (10.0, 15.0), (10.0, 40.0)], [32, 24, 12, 8])


@pytest.mark.parametrize(
    ("source", "target", "size"),
    [(5.0, 10.0, 32), (1.0, 1.0, 32), (5.0, 11.0, 24), (5.1, 1.0, 12), (5.0, 21.0, 8), (10.1, 1.0, 1), (1.0, 41.0, 1)],
)
def test_a_bucket_takes_the_most_of_what_covers_it(source: float, target: float, size: int) -> None:
    assert SIZES(source, target) == size


def test_halving_touches_what_is_as_long() -> None:
    assert SIZES.halved(5.0, 12.0, 10).sizes == [32, 10, 10, 8]


def test_sizes_are_kept_by_key_and_read_again(tmp_path: Path) -> None:
    where = place([str(tmp_path)])
    assert where == tmp_path / "batch_sizes.json"
    assert place([f"shar:{tmp_path}"]) == where
    assert place([str(tmp_path / "cuts.jsonl.gz")]) == tmp_path / "cuts.jsonl.gz.batch_sizes.json"
    assert load_sizes(where, "one") is None
    keep_sizes(where, "one", SIZES, {"machine": "a"})
    keep_sizes(where, "two", SIZES.halved(0, 0, 1), {})
    assert load_sizes(where, "one") == SIZES
    assert load_sizes(where, "two").sizes == [1, 1, 1, 1]
    where.write_text('{"one": {"tops": 3}, "two"')
    assert load_sizes(where, "one") is None
    where.write_text('{"one": {"tops": 3}}')
    assert load_sizes(where, "one") is None
