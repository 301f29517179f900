"""Best segmentations and sums over them against enumeration, with a decoder written out."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_segmental import LABELS, SEGMENTS, log_sum, plain_utterance, toy_decoder, toy_frames
from torch import Tensor
from toy import BOS

from s2s.models.segmentation import best_segmentation, fitted, length_log_prob, log_prob, total_log_prob
from s2s.nn.segments import Segments

Given = list[tuple[int, list[int]]]  # frames and labels of each utterance


def padded(targets: list[list[int]], padding: int = 5) -> tuple[Tensor, Tensor]:
    """Tokens (B,1+U) from bos on, lengths (B,) without it."""
    longest = max(map(len, targets))
    tokens = torch.tensor([[BOS, *target, *[padding] * (longest - len(target))] for target in targets])
    return tokens, torch.tensor(list(map(len, targets)))


@st.composite
def utterances(draw: st.DrawFn, max_frames: int = 5) -> Given:
    """Some utterances, without labels, with as many as frames, or between."""
    some = []
    for _ in range(draw(st.integers(1, 3))):
        frames = draw(st.integers(1, max_frames))
        some.append((frames, draw(st.lists(st.sampled_from(LABELS), max_size=frames))))
    return some


@given(segments=st.sampled_from(SEGMENTS), given=utterances(), seed=st.integers(0, 999))
@settings(max_examples=15)
def test_best_and_total_are_those_of_all_segmentations(segments: Segments, given: Given, seed: int) -> None:
    decoder, memory = toy_decoder(segments, seed), toy_frames([frames for frames, _ in given], seed)
    tokens, lengths = padded([labels for _, labels in given])
    best = best_segmentation(decoder, memory, tokens, lengths)
    total = total_log_prob(decoder, memory, tokens, lengths)
    scores = log_prob(decoder, memory, tokens, lengths, best.ends)
    for b, (_, labels) in enumerate(given):
        truth = plain_utterance(decoder, memory, b).segmentations(tuple(labels))
        assert tuple(best.ends[b, : len(labels)].tolist()) == max(truth, key=lambda ends: truth[ends])
        assert best.log_prob[b].item() == pytest.approx(max(truth.values()), abs=1e-9)
        assert scores[b].item() == pytest.approx(max(truth.values()), abs=1e-9)
        assert total[b].item() == pytest.approx(log_sum(truth.values()), abs=1e-9)
        assert not best.ends[b, len(labels) :].any()


@pytest.mark.parametrize("segments", SEGMENTS, ids=str)
def test_teacher_forcing_gives_the_probability_of_any_segmentation(segments: Segments) -> None:
    decoder, memory = toy_decoder(segments), toy_frames([5, 4])
    tokens, lengths = padded([[4, 4, 5], [5]])
    first, second = (plain_utterance(decoder, memory, b) for b in range(2))
    for ends, end in zip(itertools.combinations(range(1, 6), 3), itertools.cycle(range(1, 5))):
        found = log_prob(decoder, memory, tokens, lengths, torch.tensor([[*ends], [end, 0, 0]]))
        assert found[0].item() == pytest.approx(first.log_prob((4, 4, 5), ends), abs=1e-9)
        assert found[1].item() == pytest.approx(second.log_prob((5,), (end,)), abs=1e-9)


def test_probabilities_of_all_labels_and_segments_sum_to_one() -> None:
    decoder, memory = toy_decoder(Segments(max_frames=2)), toy_frames([3])
    everything = plain_utterance(decoder, memory, 0).everything(tuple(range(6)))
    assert math.exp(log_sum(p for each in everything.values() for p in each.values())) == pytest.approx(1.0)


@given(given=utterances(12), seed=st.integers(0, 999), segments=st.sampled_from(SEGMENTS))
@settings(max_examples=15)
def test_an_utterance_is_cut_alone_as_in_any_batch(given: Given, seed: int, segments: Segments) -> None:
    decoder, memory = toy_decoder(segments, seed), toy_frames([frames for frames, _ in given], seed)
    tokens, lengths = padded([labels for _, labels in given])
    together = best_segmentation(decoder, memory, tokens, lengths)
    totals = total_log_prob(decoder, memory, tokens, lengths)
    for b, (_, labels) in enumerate(given):
        own = padded([labels])
        alone = best_segmentation(decoder, memory.rows(b, b + 1), *own)
        assert together.ends[b, : len(labels)].tolist() == alone.ends[0].tolist()
        assert together.log_prob[b].item() == pytest.approx(alone.log_prob.item(), abs=1e-9)
        total = total_log_prob(decoder, memory.rows(b, b + 1), *own)
        assert totals[b].item() == pytest.approx(total.item(), abs=1e-9)


def test_blocks_of_any_size_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder, memory = toy_decoder(Segments(max_frames=3, right=1)), toy_frames([11, 7])
    tokens, lengths = padded([[4, 5, 5, 4], [5, 4]])
    whole = best_segmentation(decoder, memory, tokens, lengths)
    monkeypatch.setattr("s2s.models.segmentation.ROWS", 12)
    blocks = best_segmentation(decoder, memory, tokens, lengths)
    assert torch.equal(whole.ends, blocks.ends)
    torch.testing.assert_close(whole.log_prob, blocks.log_prob)


def test_more_labels_than_frames_have_no_segmentation() -> None:
    decoder, memory = toy_decoder(), toy_frames([2, 3])
    tokens, lengths = padded([[4, 4, 5], [4, 4, 5]])
    assert best_segmentation(decoder, memory, tokens, lengths).log_prob[0] == -math.inf
    assert total_log_prob(decoder, memory, tokens, lengths)[0] == -math.inf
    assert best_segmentation(decoder, memory, tokens, lengths).ends[1].tolist() == [1, 2, 3]


@given(given=utterances(8), seed=st.integers(0, 999))
@settings(max_examples=15)
def test_ends_are_moved_as_little_as_need_be(given: Given, seed: int) -> None:
    frames, targets = torch.tensor([frames for frames, _ in given]), [len(labels) for _, labels in given]
    generator = torch.Generator().manual_seed(seed)
    ends = torch.randint(-2, 12, (len(given), max(targets)), generator=generator)
    found = fitted(ends, torch.tensor(targets), frames)
    for b, count in enumerate(targets):
        own = found[b, :count].tolist()
        assert all(a < z for a, z in itertools.pairwise([0, *own, int(frames[b]) + 1]))
        assert (found[b, count:] > frames.max()).all()
        if sorted({*ends[b, :count].tolist()} & {*range(1, int(frames[b]) + 1)}) == ends[b, :count].tolist():
            assert own == ends[b, :count].tolist()  # nothing had to be moved


def test_the_length_model_counts_ends_and_frames_between() -> None:
    odds = torch.randn(2, 4, dtype=torch.float64)
    found = length_log_prob(odds, torch.tensor([[2, 4], [1, 5]]), torch.tensor([4, 3]))
    p = odds.sigmoid()
    expected = [(1 - p[0, 0]) * p[0, 1] * (1 - p[0, 2]) * p[0, 3], p[1, 0] * (1 - p[1, 1]) * (1 - p[1, 2])]
    torch.testing.assert_close(found.exp(), torch.stack(expected))
