"""Monotonic alignments against the enumeration of all of them, and where the formula of division fails."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from toy_monotonic import enumerated

from s2s.nn.attention.monotonic import chunk_lookback, expected_alignment, hard_stops, infinite_lookback

LONG = 2000
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def random(*shape: int, seed: int = 0) -> Tensor:
    return 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(num_tokens=st.integers(1, 4), num_frames=st.integers(1, 6), size=st.integers(1, 7), seed=st.integers(0, 999))
@settings(max_examples=15)
def test_expectations_are_sums_over_all_monotonic_alignments(
    num_tokens: int, num_frames: int, size: int, seed: int
) -> None:
    energies, scores = random(2, num_tokens, num_frames, seed=seed)
    alignment = expected_alignment(energies)
    expected, infinite = enumerated(energies, scores, lambda t: range(t + 1))
    torch.testing.assert_close(alignment, expected)
    torch.testing.assert_close(infinite_lookback(alignment, scores), infinite)
    _, chunk = enumerated(energies, scores, lambda t: range(max(0, t + 1 - size), t + 1))
    torch.testing.assert_close(chunk_lookback(alignment, scores, size), chunk)
    for each in (alignment, infinite, chunk):
        assert bool((each >= 0).all())
        assert bool((each.sum(dim=-1) <= 1 + 1e-12).all())
    # What a head sees has the weight of its stops.
    torch.testing.assert_close(infinite.sum(dim=-1), alignment.sum(dim=-1))
    torch.testing.assert_close(chunk.sum(dim=-1), alignment.sum(dim=-1))


def test_a_chunk_of_one_frame_is_a_hard_head_and_a_chunk_of_all_looks_back_to_the_start() -> None:
    alignment, scores = expected_alignment(random(3, 4, 9)), random(3, 4, 9, seed=1)
    torch.testing.assert_close(chunk_lookback(alignment, scores, 1), alignment)
    torch.testing.assert_close(chunk_lookback(alignment, scores, 9), infinite_lookback(alignment, scores))
    torch.testing.assert_close(chunk_lookback(alignment, scores, 20), infinite_lookback(alignment, scores))


def test_where_the_last_frame_always_stops_rows_sum_to_one() -> None:
    energies = random(5, 6, 7)
    energies[..., -1] = math.inf
    alignment = expected_alignment(energies)
    torch.testing.assert_close(alignment.sum(dim=-1), torch.ones(5, 6).double())
    # Elsewhere nothing changes: the last frame has what would not have stopped.
    energies[..., -1] = -math.inf
    torch.testing.assert_close(expected_alignment(energies)[..., :-1], alignment[..., :-1])


def test_frames_that_never_stop_are_as_if_they_were_not_there() -> None:
    energies, scores = random(2, 3, 5)
    alignment = expected_alignment(energies)
    padded = torch.cat((energies, torch.full((3, 4), -math.inf)), dim=1)
    found = expected_alignment(padded)
    torch.testing.assert_close(found, torch.cat((alignment, torch.zeros(3, 4)), dim=1))
    lowest = torch.cat((scores, torch.full((3, 4), torch.finfo(torch.float64).min, dtype=torch.float64)), dim=1)
    for weigh in (infinite_lookback, lambda a, u: chunk_lookback(a, u, 3)):
        expected = torch.cat((weigh(alignment, scores), torch.zeros(3, 4)), dim=1)
        torch.testing.assert_close(weigh(found, lowest), expected)


def recurred(energies: Tensor) -> Tensor:
    """α (N,U,T) in float64, one frame after the other, 1 - p as the sigmoid of -e."""
    energies = energies.double()
    stop, go_on = energies.sigmoid(), (-energies).sigmoid()
    before = torch.zeros(energies.size(0), energies.size(2)).double()
    before[:, 0] = 1.0
    rows = []
    for i in range(energies.size(1)):
        here, row = torch.zeros(len(energies)).double(), []
        for j in range(energies.size(2)):
            here = here * (go_on[:, i, j - 1] if j else 0.0) + before[:, j]
            row.append(stop[:, i, j] * here)
        before = torch.stack(row, dim=1)
        rows.append(before)
    return torch.stack(rows, dim=1)


def divided(energies: Tensor, least: float = 0.0) -> Tensor:
    """α (N,U,T) as Raffel et al. 2017 write it: p cumprod(1-p) cumsum(α / cumprod(1-p)), clamped to `least` or not."""
    p = energies.sigmoid()
    before = torch.zeros_like(p[:, 0])
    before[:, 0] = 1.0
    rows = []
    for i in range(p.size(1)):
        product = torch.cat((torch.ones_like(p[:, i, :1]), (1 - p[:, i, :-1]).cumprod(dim=-1)), dim=1)
        before = p[:, i] * product * (before / product.clamp(min=least)).cumsum(dim=-1)
        rows.append(before)
    return torch.stack(rows, dim=1)


def extreme(kind: str, dtype: torch.dtype) -> Tensor:
    """Energies (2,4,2000): a first token that is late, others that might stop anywhere; or from never to always."""
    generator = torch.Generator().manual_seed(0)
    if kind == "late":
        energies = torch.randn(2, 4, LONG, generator=generator) - 2.0
        energies[:, 0, : LONG // 2] -= 18.0
        return energies.to(dtype)
    values = torch.tensor([-3e4, -3e4, -100.0, -20.0, -20.0, -7.0, -7.0, -7.0, -4.0, -4.0, 30.0, 3e4])
    chance = torch.tensor([1.0] * 10 + [0.02, 0.02])
    drawn = torch.multinomial(chance, 2 * 4 * LONG, replacement=True, generator=generator)
    return values[drawn].view(2, 4, LONG).to(dtype)


@pytest.mark.parametrize("kind", ["late", "never to always"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_two_thousand_frames_of_extreme_energies_are_right_where_division_is_not(kind: str, dtype: torch.dtype) -> None:
    energies = extreme(kind, dtype)
    expected = recurred(energies)
    assert bool((expected.amax(dim=-1) > 1e-3).all())  # there is something to find
    found = expected_alignment(energies.requires_grad_())
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-9)
    assert bool((found.sum(dim=-1) <= 1 + 1e-5).all())
    assert bool(found.to(dtype).isfinite().all())
    (gradient,) = torch.autograd.grad((found * torch.arange(LONG)).sum(), energies)
    assert bool(gradient.isfinite().all())
    # The formula of division: not a number, or where that is prevented, wrong.
    given = energies.detach()
    assert not bool(divided(given).isfinite().all())
    least = max(1e-10, torch.finfo(dtype).tiny)
    assert float((divided(given, least).double() - expected).abs().sum(dim=-1).max()) > 0.5


@pytest.mark.parametrize("dtype", DTYPES)
def test_two_thousand_frames_of_extreme_scores_are_looked_back_to(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    energies = torch.randn(1, LONG, generator=generator).sub(6.0)
    alignment = expected_alignment(energies)
    for size in (1.0, 100.0, 1e4):
        given = (size * torch.randn(1, LONG, generator=generator)).to(dtype).float().requires_grad_()
        seen = given.double().expand(LONG, -1).masked_fill(~torch.ones(LONG, LONG, dtype=torch.bool).tril(), -math.inf)
        expected = alignment.double() @ seen.softmax(dim=-1)
        found = infinite_lookback(alignment, given)
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-7)
        assert bool(torch.autograd.grad(found.square().sum(), given)[0].isfinite().all())


@given(num_tokens=st.integers(1, 4), num_frames=st.integers(1, 8), seed=st.integers(0, 999))
@settings(max_examples=15)
def test_sharp_energies_are_aligned_as_decisions_are(num_tokens: int, num_frames: int, seed: int) -> None:
    energies = random(2, 3, num_tokens, num_frames, seed=seed)  # (B,H,U,T)
    energies[..., -1] = math.inf
    frames = hard_stops(energies >= 0, torch.zeros(2, 3, dtype=torch.long))
    decided = (frames.unsqueeze(-1) == torch.arange(num_frames)).double()
    assert bool((frames.diff(dim=-1) >= 0).all())
    torch.testing.assert_close(expected_alignment(1e6 * energies), decided)
    for b, h, i in itertools.product(range(2), range(3), range(num_tokens)):  # the definition
        first = int(frames[b, h, i - 1]) if i else 0
        assert frames[b, h, i] == next(j for j in range(first, num_frames) if energies[b, h, i, j] >= 0)


@given(wait=st.integers(0, 4), num_tokens=st.integers(1, 5), seed=st.integers(0, 999))
@settings(max_examples=15)
def test_heads_that_wait_for_each_other_stop_within_so_many_frames(wait: int, num_tokens: int, seed: int) -> None:
    energies = random(1, 3, num_tokens, 12, seed=seed) - 2
    energies[..., -1] = math.inf
    frames = hard_stops(energies >= 0, torch.zeros(1, 3, dtype=torch.long), wait)[0]
    before = [0, 0, 0]
    for i in range(num_tokens):
        wanted = [next(j for j in range(before[h], 12) if energies[0, h, i, j] >= 0) for h in range(3)]
        before = [min(frame, min(wanted) + wait) for frame in wanted]
        assert frames[:, i].tolist() == before
        assert max(before) - min(before) <= wait
    assert bool((frames.diff(dim=-1) >= 0).all())


def test_decisions_go_on_from_the_frames_before() -> None:
    energies = random(2, 3, 6, 9)
    energies[..., -1] = math.inf
    whole = hard_stops(energies >= 0, torch.zeros(2, 3, dtype=torch.long), 2)
    first = hard_stops(energies[:, :, :4] >= 0, torch.zeros(2, 3, dtype=torch.long), 2)
    rest = hard_stops(energies[:, :, 4:] >= 0, first[..., -1], 2)
    assert torch.equal(whole, torch.cat((first, rest), dim=-1))


def test_gradients_are_those_of_small_differences() -> None:
    energies, scores = (each.requires_grad_() for each in random(2, 2, 3, 6))
    assert torch.autograd.gradcheck(expected_alignment, (energies,))
    for weigh in (infinite_lookback, lambda a, u: chunk_lookback(a, u, 3)):
        assert torch.autograd.gradcheck(lambda e, u, weigh=weigh: weigh(expected_alignment(e), u), (energies, scores))
