"""Dynamic time warping against every path there is, and the median filter against torch's median."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from s2s.decoding import time_warping
from s2s.decoding.time_warping import median_filter, warp

SIZES = st.lists(st.tuples(st.integers(1, 4), st.integers(1, 5)), min_size=1, max_size=3)  # tokens and frames


def padded(parts: list[Tensor]) -> Tensor:
    """Matrices (U,T) as one (B,U,T); what is past the end of each is not a number."""
    shape = [max(part.size(dim) for part in parts) for dim in (0, 1)]
    result = torch.full((len(parts), *shape), float("nan"), dtype=parts[0].dtype)
    for whole, part in zip(result, parts, strict=True):
        whole[: part.size(0), : part.size(1)] = part
    return result


def batch(sizes: list[tuple[int, int]], seed: int, levels: int = 0) -> tuple[list[Tensor], list[Tensor]]:
    """Costs (U,T) of each, some of equal cost where there are few `levels`, and the arguments of `warp`."""
    generator = torch.Generator().manual_seed(seed)
    if levels:
        parts = [torch.randint(levels, size, generator=generator).double() for size in sizes]
    else:
        parts = [torch.randn(size, generator=generator, dtype=torch.float64) for size in sizes]
    return parts, [padded(parts), *(torch.tensor(lengths) for lengths in zip(*sizes, strict=True))]


def paths(tokens: int, frames: int) -> list[list[tuple[int, int]]]:
    """Every path from the first token and frame to the last."""
    if (tokens, frames) == (1, 1):
        return [[(0, 0)]]
    before = [(tokens - 1, frames), (tokens, frames - 1), (tokens - 1, frames - 1)]
    return [[*path, (tokens - 1, frames - 1)] for u, t in before if u > 0 and t > 0 for path in paths(u, t)]


def best_starts(costs: Tensor) -> set[tuple[int, ...]]:
    """The first frames of the tokens of each of the cheapest paths."""
    totals: dict[float, set[tuple[int, ...]]] = {}
    for path in paths(*costs.shape):
        starts = tuple(min(t for v, t in path if v == u) for u in range(len(costs)))
        totals.setdefault(round(sum(costs[cell].item() for cell in path), 9), set()).add(starts)
    return totals[min(totals)]


@given(sizes=SIZES, seed=st.integers(0, 10_000), levels=st.sampled_from([0, 2, 3]))
@example(sizes=[(4, 1), (1, 5), (4, 5)], seed=0, levels=0)
@settings(max_examples=15)
def test_the_path_is_the_cheapest_of_all(sizes: list[tuple[int, int]], seed: int, levels: int) -> None:
    parts, arguments = batch(sizes, seed, levels)
    for costs, starts in zip(parts, warp(*arguments).tolist(), strict=True):
        assert tuple(starts[: len(costs)]) in best_starts(costs)
        assert not any(starts[len(costs) :])


@given(sizes=SIZES, seed=st.integers(0, 10_000), levels=st.sampled_from([0, 1, 2]))
@settings(max_examples=15)
def test_costs_have_the_same_path_alone_and_in_a_batch(sizes: list[tuple[int, int]], seed: int, levels: int) -> None:
    parts, arguments = batch(sizes, seed, levels)
    for (tokens, frames), costs, starts in zip(sizes, parts, warp(*arguments), strict=True):
        alone = warp(costs.unsqueeze(0), torch.tensor([tokens]), torch.tensor([frames]))[0]
        assert starts[:tokens].equal(alone)


def test_long_costs_have_the_path_that_transformers_finds() -> None:
    theirs = pytest.importorskip("transformers.models.whisper.generation_whisper")._dynamic_time_warping
    sizes = [(40, 300), (17, 260), (60, 50)]
    parts, arguments = batch(sizes, seed=1)
    for costs, found in zip(parts, warp(*arguments).tolist(), strict=True):
        tokens, frames = theirs(costs.numpy())
        expected = [int(frames[tokens == u][0]) for u in range(len(costs))]
        assert found[: len(costs)] == expected


@given(lengths=st.lists(st.integers(4, 12), min_size=1, max_size=3), width=st.sampled_from([1, 3, 5, 7]))
@settings(max_examples=15)
def test_the_filter_is_the_median_of_each_utterance_reflected_at_its_own_ends(lengths: list[int], width: int) -> None:
    generator = torch.Generator().manual_seed(sum(lengths))
    parts = [torch.randn(3, length, generator=generator) for length in lengths]
    result = median_filter(padded(parts).unsqueeze(1), torch.tensor(lengths), width)
    for part, length, found in zip(parts, lengths, result[:, 0], strict=True):
        reflected = F.pad(part, (width // 2, width // 2), mode="reflect")
        assert found[:, :length].equal(reflected.unfold(1, width, 1).median(dim=-1).values)
        assert not found[:, length:].any()


def test_an_utterance_shorter_than_the_filter_is_filtered_alone_as_in_a_batch() -> None:
    x = torch.randn(2, 2, 9, generator=torch.Generator().manual_seed(0))
    for length in (1, 2, 3):
        alone = median_filter(x[:1, :, :length], torch.tensor([length]))
        assert alone.isfinite().all()
        assert median_filter(x, torch.tensor([length, 9]))[0, :, :length].equal(alone[0])


def test_the_size_of_the_blocks_does_not_change_the_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    x, lengths = torch.randn(2, 3, 4, 30, generator=torch.Generator().manual_seed(0)), torch.tensor([30, 11])
    whole = median_filter(x, lengths)
    monkeypatch.setattr(time_warping, "_BLOCK_CPU", 100)
    assert median_filter(x, lengths).equal(whole)
