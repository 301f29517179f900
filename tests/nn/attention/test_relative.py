"""Scores of positions."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from s2s.nn.attention.relative import Relative
from s2s.nn.positions import sinusoidal


@given(first=st.integers(0, 20), rows=st.integers(1, 6), low=st.integers(0, 20), keys=st.integers(1, 9))
@settings(max_examples=20)
def test_places_in_a_row_and_any_places_get_the_scores_of_their_offsets(
    first: int, rows: int, low: int, keys: int
) -> None:
    torch.manual_seed(0)
    relative = Relative(8, 2, 4).double()
    torch.nn.init.normal_(relative.position_bias)
    query = torch.randn(1, 2, rows, 4).double()
    i, j = torch.arange(first, first + rows), torch.arange(low, low + keys)
    expected = torch.zeros(1, 2, rows, keys).double()
    for head in range(2):
        for a in range(rows):
            for b in range(keys):
                offset = relative.projection(sinusoidal(i[a] - j[b], 8).double())[4 * head : 4 * head + 4]
                expected[0, head, a, b] = (query[0, head, a] + relative.position_bias[head, 0]) @ offset / 2
    torch.testing.assert_close(relative.bias(query, i, j), expected)
    shuffled, other = torch.randperm(rows), torch.randperm(keys)
    found = relative.bias(query[:, :, shuffled], i[shuffled][None], j[other][None])
    torch.testing.assert_close(found, expected[:, :, shuffled][..., other])
