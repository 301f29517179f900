"""What blocks of queries look at, against one mask over all frames."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from s2s.errors import UserError
from s2s.nn.attention.attention import Attention, _say_once
from s2s.nn.attention.config import AttentionConfig
from s2s.nn.attention.reach import Chunked, Limited, Reach, build_reach
from s2s.nn.lengths import valid_mask

REACHES: list[dict[str, Any]] = [
    {"reach": "full"},
    {"reach": "limited", "left": 0, "right": 0},
    {"reach": "limited", "left": 3, "right": 1},
    {"reach": "limited", "left": 1, "right": 2, "global_frames": 3},
    {"reach": "limited", "left": 70, "right": 70, "global_frames": 1},
    {"reach": "chunked", "chunk_size": 4},
    {"reach": "chunked", "chunk_size": 3, "left_chunks": 1},
    {"reach": "chunked", "chunk_size": 1, "left_chunks": 0},
]


def may_attend(config: AttentionConfig, i: int, j: int) -> bool:
    """Whether frame i may attend to frame j, one pair at a time."""
    if config.reach == "limited":
        return i - config.left <= j <= i + config.right or min(i, j) < config.global_frames
    if config.reach == "chunked":
        back = i // config.chunk_size - j // config.chunk_size
        return back >= 0 and (config.left_chunks is None or back <= config.left_chunks)
    return True


def mask(config: AttentionConfig, size: int) -> Tensor:
    return torch.tensor([[may_attend(config, i, j) for j in range(size)] for i in range(size)])


@given(options=st.sampled_from(REACHES), size=st.integers(1, 200), block_size=st.sampled_from([1, 7, 64, 512]))
@settings(max_examples=40)
def test_blocks_hold_every_query_once_and_every_key_it_may_attend_to(
    options: dict[str, Any], size: int, block_size: int
) -> None:
    config = AttentionConfig(**options)
    reach, expected = build_reach(config), mask(config, size)
    rows = []
    for start, stop, stretches in reach.blocks(size, block_size):
        rows += range(start, stop)
        columns = [j for low, high in stretches for j in range(low, high)]
        assert len(set(columns)) == len(columns)
        hidden = sorted(set(range(size)) - set(columns))
        assert not expected[start:stop, hidden].any()
        shown = reach.shown(torch.arange(start, stop), torch.tensor(columns))
        wanted = expected[start:stop, columns]
        assert torch.equal(torch.ones_like(wanted) if shown is None else shown, wanted)
    assert rows == list(range(size))


@pytest.mark.parametrize("positions", ["none", "relative", "rotary", "alibi"])
@given(
    options=st.sampled_from(REACHES),
    lengths=st.lists(st.integers(1, 150), min_size=1, max_size=3),
    block_size=st.sampled_from([5, 512]),
    causal=st.booleans(),
)
@settings(max_examples=12)
def test_a_block_at_a_time_gives_what_one_mask_gives(
    positions: str, options: dict[str, Any], lengths: list[int], block_size: int, causal: bool
) -> None:
    torch.manual_seed(0)
    config, size = AttentionConfig(**options), max(lengths)
    layer = Attention(8, 2, config=config, positions=positions, block_size=block_size).double()
    x, valid = torch.randn(len(lengths), size, 8).double(), valid_mask(torch.tensor(lengths), size)
    allowed = mask(config, size) & (torch.ones(size, size, dtype=torch.bool).tril() if causal else True)
    plain = Attention(8, 2, positions=positions, block_size=size).double()
    plain.load_state_dict(layer.state_dict())
    # A row that sees nothing valid is of no interest: it is itself beyond the end.
    bias = (allowed & valid[:, None, :]).unsqueeze(1)
    expected = plain.within(x, bias | torch.eye(size, dtype=torch.bool))
    found = layer.within(x, valid[:, None, None, :], causal)
    torch.testing.assert_close(found[valid], expected[valid], rtol=1e-9, atol=1e-10)


def test_few_keys_are_looked_at_however_long_an_utterance_is() -> None:
    for reach in (Limited(64, 64, 1), Chunked(16, 4)):
        size = 10_000
        looked = sum(
            (stop - start) * sum(high - low for low, high in keys) for start, stop, keys in reach.blocks(size, 512)
        )
        assert looked < 700 * size
    assert sum((b.stop - b.start) * b.keys[0][1] for b in Reach().blocks(1000, 512)) == 1000 * 1000


@given(lengths=st.lists(st.integers(1, 30), min_size=1, max_size=4), above=st.integers(0, 30))
@settings(max_examples=20)
def test_only_longer_utterances_are_limited_whatever_batch_they_are_in(lengths: list[int], above: int) -> None:
    torch.manual_seed(0)
    options = {"reach": "limited", "left": 2, "right": 1}
    switching = Attention(8, 2, config=AttentionConfig(**options, above=above), positions="relative").double()  # type: ignore[arg-type]
    limited = Attention(8, 2, config=AttentionConfig(**options), positions="relative").double()  # type: ignore[arg-type]
    full = Attention(8, 2, positions="relative").double()
    limited.load_state_dict(switching.state_dict())
    full.load_state_dict(switching.state_dict())
    x, valid = torch.randn(len(lengths), max(lengths), 8).double(), valid_mask(torch.tensor(lengths), max(lengths))
    found = switching.within(x, valid[:, None, None, :])
    for b, length in enumerate(lengths):
        alone = (limited if length > above else full).within(x[b : b + 1, :length])
        torch.testing.assert_close(found[b : b + 1, :length], alone, rtol=1e-9, atol=1e-10)


def test_the_switch_is_said_aloud_once(caplog: pytest.LogCaptureFixture) -> None:
    _say_once.cache_clear()
    config = AttentionConfig(reach="limited", left=2, right=2, above=6)
    layer = Attention(8, 2, config=config)
    with caplog.at_level(logging.WARNING):
        layer.within(torch.randn(1, 6, 8))
        assert not caplog.records
        layer.within(torch.randn(1, 7, 8))
        layer.within(torch.randn(1, 9, 8))
    assert [record.getMessage() for record in caplog.records] == [
        "utterances of more than 6 frames are attended to by reach=limited"
    ]


@pytest.mark.parametrize(
    ("options", "over_memory", "message"),
    [
        ({"reach": "limited"}, True, r"reach=limited: queries of a cross-attention"),
        ({"reach": "strided"}, False, r"reach=strided: is for cross-attention"),
    ],
)
def test_a_reach_that_makes_no_sense_is_refused(options: dict[str, Any], over_memory: bool, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Attention(8, 2, config=AttentionConfig(**options), over_memory=over_memory)
