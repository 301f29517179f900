"""CTC prefix scores against enumeration of every frame labelling."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from s2s.decoding.beam import Beam
from s2s.decoding.ctc_prefix import CTCPrefixScorer
from s2s.decoding.engine import LabelSearch
from s2s.models.ctc import CTC
from s2s.models.memory import Memory

BLANK, BOS, EOS = 0, 1, 2


def collapse(path: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(label for label, _ in itertools.groupby(path) if label != BLANK)


def enumerate_labels(log_probs: Tensor) -> dict[tuple[int, ...], float]:
    """P of every label sequence (not log) that log_probs (T,V) can give, by summing all V^T paths."""
    total: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(log_probs.size(1)), repeat=log_probs.size(0)):
        p = math.exp(sum(log_probs[t, v].item() for t, v in enumerate(path)))
        total[collapse(path)] = total.get(collapse(path), 0.0) + p
    return total


def random_memory(lengths: list[int], seed: int, dtype: torch.dtype) -> tuple[Memory, CTC]:
    torch.manual_seed(seed)
    ctc = CTC(6, 5).to(dtype)
    states = 3 * torch.randn(len(lengths), max(lengths), 6, dtype=dtype)
    for b, length in enumerate(lengths):
        states[b, length:] = float("nan")  # padding must never be looked at
    return Memory(states, torch.tensor(lengths)), ctc


@pytest.fixture(params=["product", "candidates", "logarithms"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each of the ways to sum over frames, whatever the size."""
    if request.param == "candidates":
        monkeypatch.setattr("s2s.decoding.ctc_prefix.CHEAPER", 0)
    if request.param == "logarithms":
        monkeypatch.setattr("s2s.decoding.ctc_prefix.FLOOR", 1.0)
    return str(request.param)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-4)])
@given(lengths=st.lists(st.integers(1, 5), min_size=1, max_size=3), seed=st.integers(0, 10_000))
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_prefix_scores_equal_the_sum_over_all_paths(
    way: str, dtype: torch.dtype, tolerance: float, lengths: list[int], seed: int
) -> None:
    memory, ctc = random_memory(lengths, seed, dtype)
    scorer = CTCPrefixScorer(ctc, BOS, EOS)
    log_probs = ctc(memory)
    truth = [enumerate_labels(log_probs[b, :n].detach()) for b, n in enumerate(lengths)]
    state = scorer.start(memory, 2)
    prefixes: list[tuple[int, ...]] = [() for _ in lengths for _ in range(2)]
    tokens = torch.full((len(prefixes),), BOS)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(4):  # a random walk over prefixes, each row its own; some rows stay as they are
        candidates = torch.stack([torch.randperm(5, generator=generator) for _ in prefixes])
        scores = scorer.score_candidates(tokens, candidates, state)
        for n, prefix in enumerate(prefixes):
            possible = truth[n // 2]
            so_far = sum(p for labels, p in possible.items() if labels[: len(prefix)] == prefix)
            for token, score in zip(candidates[n].tolist(), scores[n].tolist(), strict=True):
                longer = (*prefix, token)
                expected = sum(p for labels, p in possible.items() if labels[: len(longer)] == longer)
                if token == EOS:
                    expected = possible.get(prefix, 0.0)
                if expected == 0.0 or token == BLANK:
                    assert score == -math.inf
                else:
                    assert score == pytest.approx(math.log(expected / so_far), abs=tolerance)
        parents = torch.arange(len(prefixes)) - torch.randint(2, (len(prefixes),), generator=generator)
        parents = torch.where(parents // 2 == torch.arange(len(prefixes)) // 2, parents, parents + 1)
        state = scorer.select(state, parents)
        prefixes = [prefixes[p] for p in parents.tolist()]
        tokens = torch.randint(3, 5, (len(prefixes),), generator=generator)
        for n, token in enumerate(tokens.tolist()):
            longer = (*prefixes[n], token)
            if all(labels[: len(longer)] != longer for labels in truth[n // 2]):
                tokens[n] = -1
            else:
                prefixes[n] = longer


def test_the_ways_agree_with_a_loop_over_frames_where_that_is_all_there_is(way: str) -> None:
    memory, ctc = random_memory([200, 120], 0, torch.float64)
    scorer = CTCPrefixScorer(ctc, BOS, EOS)
    state = scorer.start(memory, 1)
    log_probs = ctc(memory).detach()
    prefix = [3, 3, 4, 3, 4, 4, 4, 3]
    total = torch.zeros(2, dtype=torch.float64)
    for last, token in zip([BOS, *prefix], [*prefix, EOS], strict=True):
        total += scorer.score_candidates(torch.tensor([last] * 2), torch.tensor([[token]] * 2), state)[:, 0]
    for b, length in enumerate([200, 120]):
        expected = -torch.nn.functional.ctc_loss(
            log_probs[b], torch.tensor(prefix), torch.tensor(length), torch.tensor(len(prefix)), reduction="sum"
        )
        assert total[b].item() == pytest.approx(expected.item(), abs=1e-9)


def test_emissions_too_small_for_probabilities_are_summed_as_logarithms() -> None:
    memory, ctc = random_memory([6, 3], 0, torch.float64)
    memory.states[:, :, :] *= 1000.0
    scorer = CTCPrefixScorer(ctc, BOS, EOS)
    state = scorer.start(memory, 1)
    assert state.extreme
    scores = scorer.score_candidates(torch.tensor([BOS, BOS]), torch.arange(5).expand(2, -1), state)
    log_probs = ctc(memory).detach()
    for b, length in enumerate([6, 3]):
        blanks = log_probs[b, :length, BLANK].cumsum(0)
        before = torch.cat((blanks.new_zeros(1), blanks[:-1]))
        expected = (before.unsqueeze(1) + log_probs[b, :length]).logsumexp(0)
        assert scores[b, 3:].tolist() == pytest.approx(expected[3:].tolist(), rel=1e-12)
        assert scores[b, 3:].isfinite().all()


@given(lengths=st.lists(st.integers(1, 5), min_size=1, max_size=3), seed=st.integers(0, 10_000))
@settings(max_examples=12)
def test_a_beam_as_wide_as_the_space_finds_the_most_probable_labels(lengths: list[int], seed: int) -> None:
    memory, ctc = random_memory(lengths, seed, torch.float64)
    found = LabelSearch({"ctc": (CTCPrefixScorer(ctc, BOS, EOS), 1.0)}, Beam(400), 5, BOS, EOS, (BLANK, BOS))(memory)
    for b, n in enumerate(lengths):
        truth = enumerate_labels(ctc(memory)[b, :n].detach())
        allowed = {labels: p for labels, p in truth.items() if BOS not in labels and EOS not in labels}
        best = max(allowed, key=lambda labels: allowed[labels])
        assert tuple(found[b][0].tokens) == best
        assert found[b][0].score == pytest.approx(math.log(allowed[best]), abs=1e-9)
