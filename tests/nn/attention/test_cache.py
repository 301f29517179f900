"""What hypotheses that begin alike have in their past."""

from __future__ import annotations

import random

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from s2s.nn.attention.cache import RESERVE, HypothesisCache
from s2s.nn.lengths import valid_mask


def empty(size: int, beam_size: int) -> HypothesisCache:
    return HypothesisCache.empty(size, beam_size, [[(1, 1), (1, 1)]], torch.zeros(1))


def past(cache: HypothesisCache, b: int, k: int) -> list[float]:
    """The keys that hypothesis k of utterance b sees, in the order of their slots."""
    return cache.layers[0][0][b, 0, cache.ancestors[b, k], 0].tolist()


@given(
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=4),
    more=st.integers(0, 3),
    beam_size=st.integers(1, 3),
    steps=st.integers(0, 30),
)
@settings(max_examples=15)
def test_all_hypotheses_begin_with_what_they_share(lengths: list[int], more: int, beam_size: int, steps: int) -> None:
    size = max(lengths) + more
    cache = empty(len(lengths), beam_size)
    mask = cache.open_shared(valid_mask(torch.tensor(lengths), size))
    assert mask.shape == (len(lengths), 1, size, size)
    assert torch.equal(mask, torch.ones_like(mask).tril())
    tokens = torch.arange(1.0, size + 1).expand(len(lengths), 1, -1).unsqueeze(-1)  # (B,H,P,d)
    keys, _ = cache.write(0, (tokens, tokens))
    assert torch.equal(keys, tokens)
    assert cache.positions.tolist() == [[n] * beam_size for n in lengths]
    for step in range(steps):
        shown = cache.open()
        number = torch.full((len(lengths), 1, beam_size, 1), 100.0 + step)
        keys, _ = cache.write(0, (number, number))
        for b, length in enumerate(lengths):
            expected = [*range(1, length + 1), *range(100, 101 + step)]
            for k in range(beam_size):
                assert keys[b, 0, shown[b, 0, k], 0].tolist() == expected
        cache.close(torch.ones(len(lengths), beam_size, dtype=torch.bool))
    for b, length in enumerate(lengths):
        assert past(cache, b, 0) == [*range(1, length + 1), *range(100, 100 + steps)]
    assert cache.positions.tolist() == [[n + steps] * beam_size for n in lengths]


def test_what_is_shared_may_come_in_parts() -> None:
    cache = empty(2, 2)
    for first, lengths in ((1, [2, 1]), (3, [1, 2])):
        tokens = torch.arange(float(first), first + 2).expand(2, 1, -1).unsqueeze(-1)
        mask = cache.open_shared(valid_mask(torch.tensor(lengths), 2))
        cache.write(0, (tokens, tokens))
    assert mask.tolist() == [
        [[[True, True, True, False], [True] * 4]],
        [[[True, False, True, False], [True, False, True, True]]],
    ]
    assert past(cache, 0, 1) == [1, 2, 3]
    assert past(cache, 1, 0) == [1, 3, 4]
    assert cache.used_slot_positions.tolist() == [[0, 1, 2, 3], [0, 1, 1, 2]]


def test_the_padding_of_what_is_shared_is_cleared_away() -> None:
    cache = empty(1, 1)
    cache.open_shared(valid_mask(torch.tensor([3]), 50))
    for _ in range(50):
        cache.open()
        cache.close(torch.ones(1, 1, dtype=torch.bool))
    assert int(cache.ancestors.sum()) == 53
    assert cache.ancestors.size(2) <= 53 + 53 // 2 + RESERVE + 1


@given(stride=st.integers(1, 4), beam_size=st.integers(1, 3), steps=st.integers(1, 40), seed=st.integers(0, 99))
@settings(max_examples=15)
def test_of_tokens_that_share_an_entry_the_last_ones_stay(stride: int, beam_size: int, steps: int, seed: int) -> None:
    cache, chance = HypothesisCache.empty(1, beam_size, [[(1, 1)]], torch.zeros(1), stride), random.Random(seed)
    rows: list[list[float]] = [[] for _ in range(beam_size)]
    for step in range(steps):
        cache.open()
        numbers = [100.0 * step + k for k in range(beam_size)]
        cache.write(0, (torch.tensor(numbers).view(1, 1, beam_size, 1),))
        grown = [chance.random() < 0.8 for _ in rows]
        cache.close(torch.tensor([grown]))
        rows = [[*row, number] if own else row for row, number, own in zip(rows, numbers, grown, strict=True)]
        parents = [chance.randrange(beam_size) for _ in rows]
        cache.select(torch.tensor(parents))
        rows = [list(rows[parent]) for parent in parents]
        for k, row in enumerate(rows):
            found = past(cache, 0, k)
            assert set(found) <= set(row)
            assert row[-1:] == found[-1:]
            assert set(row[stride - 1 :: stride]) <= set(found)
