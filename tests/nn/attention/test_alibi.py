"""Penalties on distance."""

from __future__ import annotations

import pytest
import torch

from s2s.nn.attention.alibi import ALiBi, slopes


def test_slopes_are_those_of_the_paper() -> None:
    assert slopes(8) == [2.0**-h for h in range(1, 9)]
    assert slopes(16) == pytest.approx([2.0 ** (-h / 2) for h in range(1, 17)])


@pytest.mark.parametrize("num_heads", [1, 2, 3, 6, 12, 20])
def test_every_head_has_a_slope_of_its_own(num_heads: int) -> None:
    found = slopes(num_heads)
    assert len(set(found)) == num_heads
    assert all(0 < slope <= 2**-0.25 for slope in found)


def test_the_bias_is_the_slope_times_the_distance() -> None:
    query = torch.zeros(2, 3, 2, 4).double()
    rows, columns = torch.tensor([[4, 9], [0, 1]]), torch.tensor([[0, 5, 7], [2, 2, 3]])
    found, alibi = ALiBi(3).bias(query, rows, columns), slopes(3)
    for b in range(2):
        for head in range(3):
            for u in range(2):
                for t in range(3):
                    expected = -alibi[head] * abs(int(rows[b, u]) - int(columns[b, t]))
                    assert found[b, head, u, t].item() == pytest.approx(expected)
    same = ALiBi(3).bias(query, rows[0], columns[0])
    torch.testing.assert_close(same.expand(2, -1, -1, -1)[0], found[0])
