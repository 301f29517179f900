"""CTC prefix scores against enumeration of every frame labelling."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from s2s.decoding.beam import BeamSearch
from s2s.decoding.ctc_prefix import CTCPrefixScorer
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


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-4)])
@given(lengths=st.lists(st.integers(1, 5), min_size=1, max_size=3), seed=st.integers(0, 10_000))
@settings(max_examples=12, deadline=None)
def test_prefix_scores_equal_the_sum_over_all_paths(
    dtype: torch.dtype, tolerance: float, lengths: list[int], seed: int
) -> None:
    memory, ctc = random_memory(lengths, seed, dtype)
    scorer = CTCPrefixScorer(ctc, EOS)
    log_probs = ctc(memory)
    truth = [enumerate_labels(log_probs[b, :n].detach()) for b, n in enumerate(lengths)]
    state = scorer.start(memory, 1, 10)
    prefixes: list[tuple[int, ...]] = [() for _ in lengths]
    generator = torch.Generator().manual_seed(seed)
    for _ in range(3):  # repeats and all: a random walk over prefixes, each utterance its own
        candidates = torch.arange(5).expand(len(lengths), 5)
        before = state.prefix_scores.clone()
        scores = scorer.score_candidates(candidates, state) + before.unsqueeze(1)
        for b, prefix in enumerate(prefixes):
            for token in (1, 2, 3, 4):
                if token == EOS:
                    expected = truth[b].get(prefix, 0.0)
                else:
                    longer = (*prefix, token)
                    expected = sum(p for labels, p in truth[b].items() if labels[: len(longer)] == longer)
                if expected == 0.0:
                    assert scores[b, token] == float("-inf")
                else:
                    assert scores[b, token].item() == pytest.approx(math.log(expected), abs=tolerance)
            assert scores[b, BLANK] == float("-inf")
        choices = torch.randint(3, 5, (len(lengths),), generator=generator)
        if any(scores[b, c] == float("-inf") for b, c in enumerate(choices)):
            break
        state = scorer.select_candidates(state, torch.arange(len(lengths)), choices)
        prefixes = [(*prefix, int(c)) for prefix, c in zip(prefixes, choices, strict=True)]


@given(lengths=st.lists(st.integers(1, 5), min_size=1, max_size=3), seed=st.integers(0, 10_000))
@settings(max_examples=12, deadline=None)
def test_a_beam_as_wide_as_the_space_finds_the_most_probable_labels(lengths: list[int], seed: int) -> None:
    memory, ctc = random_memory(lengths, seed, torch.float64)
    search = BeamSearch({"ctc": (CTCPrefixScorer(ctc, EOS), 1.0)}, 5, BOS, EOS, (BLANK, BOS), beam_size=5)
    search.beam_size = 400  # wider than the vocabulary, which users are refused
    found = search(memory)
    for b, n in enumerate(lengths):
        truth = enumerate_labels(ctc(memory)[b, :n].detach())
        allowed = {labels: p for labels, p in truth.items() if BOS not in labels and EOS not in labels}
        best = max(allowed, key=lambda labels: allowed[labels])
        assert tuple(found[b][0].tokens) == best
        assert found[b][0].score == pytest.approx(math.log(allowed[best]), abs=1e-9)
