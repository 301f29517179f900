from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from s2s.data.buckets import budget
from s2s.data.padding import SAMPLERS, draw_padding, padding, padding_table, sampled_batches


def test_padding_is_what_is_computed_and_not_there() -> None:
    lengths = {"a": (1.0, 4.0), "b": (2.0, 4.0), "c": (3.0, 1.0)}
    found = padding([["a", "b"], ["c"]], lengths)
    assert found.source == pytest.approx(1 - 6 / 7)
    assert found.target == pytest.approx(0.0)
    assert found.both == pytest.approx(1 - 2 / (7 / 6 + 1))
    assert found.batches == 2


def test_samplers_are_told_and_drawn(tmp_path: Path) -> None:
    lengths = {f"u{i}": (1.0 + i % 17, float(i % 5)) for i in range(200)}
    batches = sampled_batches(lengths, budget(60, None), 4, 3)
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(padding_table(batches, lengths))
    lines = console.export_text().splitlines()
    assert [line.split()[0] for line in lines[1:4]] == list(SAMPLERS)
    draw_padding(tmp_path / "padding.png", batches, lengths, "seconds")
    assert (tmp_path / "padding.png").read_bytes().startswith(b"\x89PNG")
