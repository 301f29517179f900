"""Rows that come and go in one place."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from s2s.nn.rows import RowBuffer, join_rows


def rows(size: int, width: int) -> Tensor:
    return torch.randn(size, 2, width, 3)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=60)
def test_a_buffer_holds_what_copies_would(seed: int) -> None:
    """Any order of joining and leaving, of any sizes and widths, NaN in rows that left: the rows that copying makes."""
    rng = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)

    def number(most: int) -> int:
        return int(torch.randint(1, most + 1, (), generator=rng))

    expected = rows(number(4), number(300))
    given_rows = expected.clone()
    buffer = RowBuffer(given_rows)
    for _ in range(number(8)):
        if len(expected) > 1 and number(2) == 1:
            staying = (torch.rand(len(expected), generator=rng) < 0.6).nonzero().flatten()
            staying = staying if len(staying) else torch.tensor([0])
            for leaving in set(range(len(expected))) - set(staying.tolist()):
                if buffer.buffer is not None:
                    buffer.rows[leaving] = float("nan")
            expected = expected.index_select(0, staying)
            buffer.keep(staying)
        else:
            more = rows(number(4), number(300))
            expected = join_rows(expected, more)
            buffer.join(more)
        assert torch.equal(buffer.rows, expected)


def test_rows_of_somebody_else_are_not_written_to() -> None:
    given_rows = rows(4, 5)
    before = given_rows.clone()
    leaving, joining = RowBuffer(given_rows), RowBuffer(given_rows)
    leaving.keep(torch.tensor([1, 3]))
    leaving.keep(torch.tensor([1]))
    joining.join(rows(2, 5))
    joining.keep(torch.tensor([2, 5]))
    assert torch.equal(given_rows, before)


def test_rows_that_leave_and_join_take_no_new_memory() -> None:
    buffer = RowBuffer(rows(1, 100))
    for _ in range(7):
        buffer.join(rows(1, 90))
    place = buffer.rows.data_ptr()
    for _ in range(5):
        buffer.keep(torch.tensor([0, 2, 3, 5, 7]))
        buffer.join(rows(3, 110))
        assert buffer.rows.data_ptr() == place
