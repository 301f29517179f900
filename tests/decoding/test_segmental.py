"""Segmental searches against enumeration of all labels and segmentations, with a decoder written out."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pieces import same
from plain_segmental import (
    SEGMENTS,
    DecoderOnly,
    Ends,
    Labels,
    PlainDecoder,
    log_sum,
    plain_utterance,
    seen,
    toy_decoder,
    toy_frames,
)
from toy import BOS, UNK

from s2s.decoding.hypothesis import Hypothesis, UtteranceError
from s2s.decoding.segmental import SegmentalSearch
from s2s.decoding.segmental_beam import recombined
from s2s.errors import UserError
from s2s.models.memory import Memory
from s2s.models.segmentation import best_segmentation, log_prob
from s2s.nn.segments import Segments

ALLOWED = (UNK, 4, 5)
LENGTHS = st.lists(st.integers(1, 20), min_size=1, max_size=3)
SHORT = st.lists(st.integers(1, 3), min_size=1, max_size=2)
KINDS = st.sampled_from(SEGMENTS)
APART = st.sampled_from([0, 2, 32])
SEEDS = st.integers(0, 999)


def toy_search(segments: Segments | None = None, seed: int = 0, **options: Any) -> SegmentalSearch:
    return SegmentalSearch(DecoderOnly(toy_decoder(segments, seed)), **{"threshold": None, **options})


def boundaries(hypothesis: Hypothesis) -> Ends:
    """Where the segments end; each begins where the one before it ended."""
    assert hypothesis.frames is not None
    ends = [end for _, end in hypothesis.frames]
    assert [start for start, _ in hypothesis.frames] == [0, *ends][: len(ends)]
    return tuple(ends)


@given(segments=KINDS, apart=APART, lengths=SHORT, seed=SEEDS)
@settings(max_examples=15)
def test_a_wide_beam_finds_the_best_segmentation_of_all_labels(
    segments: Segments, apart: int, lengths: list[int], seed: int
) -> None:
    memory = toy_frames(lengths, seed)
    search = toy_search(segments, seed, beam_size=70, nbest=70, apart=apart)
    for b, found in enumerate(search(memory)):
        everything = plain_utterance(search.decoder, memory, b).everything(ALLOWED)
        best = {labels: max(each, key=lambda ends: each[ends]) for labels, each in everything.items()}
        truth = {labels: everything[labels][ends] for labels, ends in best.items()}
        assert [tuple(h.tokens) for h in found] == sorted(truth, key=lambda labels: -truth[labels])
        for hypothesis in found:
            labels = tuple(hypothesis.tokens)
            assert hypothesis.score == pytest.approx(truth[labels], abs=1e-9)
            assert boundaries(hypothesis) == best[labels]


@given(segments=KINDS, apart=APART, lengths=SHORT, seed=SEEDS)
@settings(max_examples=15)
def test_a_wide_beam_sums_over_all_segmentations(segments: Segments, apart: int, lengths: list[int], seed: int) -> None:
    memory = toy_frames(lengths, seed)
    search = toy_search(segments, seed, beam_size=70, nbest=70, apart=apart, recombine="sum")
    for b, found in enumerate(search(memory)):
        everything = plain_utterance(search.decoder, memory, b).everything(ALLOWED)
        truth = {labels: log_sum(each.values()) for labels, each in everything.items()}
        assert [tuple(h.tokens) for h in found] == sorted(truth, key=lambda labels: -truth[labels])
        assert [h.score for h in found] == pytest.approx(sorted(truth.values(), reverse=True), abs=1e-9)


@given(segments=KINDS, apart=APART, lengths=LENGTHS, seed=SEEDS, beam_size=st.integers(1, 5))
@settings(max_examples=12)
def test_a_score_is_that_of_the_labels_and_segments_found(
    segments: Segments, apart: int, lengths: list[int], seed: int, beam_size: int
) -> None:
    memory = toy_frames(lengths, seed)
    search = toy_search(segments, seed, beam_size=beam_size, nbest=beam_size, apart=apart, threshold=8.0)
    for b, found in enumerate(search(memory)):
        assert len({tuple(h.tokens) for h in found}) == len(found)
        assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)
        for h in found:
            tokens, ends = torch.tensor([[BOS, *h.tokens]]), torch.tensor([boundaries(h)]).view(1, -1)
            given = (search.decoder, memory.rows(b, b + 1), tokens, torch.tensor([len(h.tokens)]))
            assert h.score == h.scores["segmental"]
            assert h.score == pytest.approx(log_prob(*given, ends.long()).item(), abs=1e-9)
            assert h.score <= best_segmentation(*given).log_prob.item() + 1e-9


@given(
    segments=KINDS,
    apart=APART,
    lengths=LENGTHS,
    more=st.integers(0, 5),
    recombine=st.sampled_from(["max", "sum"]),
    threshold=st.sampled_from([None, 6.0]),
    seed=SEEDS,
)
@settings(max_examples=15)
def test_an_utterance_is_found_alone_as_in_any_batch_with_any_padding(
    segments: Segments,
    apart: int,
    lengths: list[int],
    more: int,
    recombine: str,
    threshold: float | None,
    seed: int,
) -> None:
    memory = toy_frames(lengths, seed)
    wider = Memory(torch.nn.functional.pad(memory.states, (0, 0, 0, more), value=float("nan")), memory.lengths)
    options = {"beam_size": 3, "nbest": 2, "apart": apart, "recombine": recombine, "threshold": threshold}
    search = toy_search(segments, seed, **options)
    for b, found in enumerate(search(wider)):
        same(found, search(memory.rows(b, b + 1))[0])


@torch.no_grad()
def plain_beam(plain: PlainDecoder, beam_size: int, apart: int) -> list[tuple[Labels, Ends, float]]:
    """The search over dictionaries, the best of each; the labels of frames long ago are in a beam of their own."""
    segments = plain.decoder.segments
    groups: list[dict[tuple[Labels, Ends], float]] = [{((), ()): 0.0}]  # the shared beam, then the oldest first
    for t in range(len(plain.states)):
        going: list[dict[tuple[Labels, Ends], float]] = []
        ended: dict[tuple[Labels, Ends], float] = {}
        for group in groups:
            going.append({})
            for (labels, ends), score in group.items():
                log_end, log_go = plain.once(plain.log_ends, labels, t)
                going[-1][labels, ends] = score + log_go
                start = ends[-1] if ends else 0
                frames = seen(segments, start, t + 1, len(plain.states))
                for label in ALLOWED:
                    total = score + log_end + plain.once(plain.label, labels, frames)[label].item()
                    ended[(*labels, label), (*ends, t + 1)] = total
        new = _kept(ended, beam_size, lambda labels, ends: labels)
        groups = [*going, new]
        if len(groups) > 1 + apart:
            first = {**groups[0], **groups.pop(1)}
            groups[0] = _kept(first, beam_size, lambda labels, ends, t=t: (labels, _visible(segments, ends, t + 2)))
    everything = {key: score for group in groups for key, score in group.items()}
    kept = _kept(everything, beam_size, lambda labels, ends: labels)
    return [(*key, score) for key, score in kept.items()]


def _visible(segments: Segments, ends: Ends, end: int) -> tuple[int, ...]:
    """What a label that ends before frame `end` would see of an utterance without an end."""
    return tuple(seen(segments, ends[-1] if ends else 0, end, 100))


def _kept(scores: dict[tuple[Labels, Ends], float], count: int, key: Any) -> dict[tuple[Labels, Ends], float]:
    """The `count` best, one of each key."""
    best: dict[Any, tuple[Labels, Ends]] = {}
    for each in sorted(scores, key=lambda each: -scores[each]):
        best.setdefault(key(*each), each)
    return {each: scores[each] for each in list(best.values())[:count]}


@given(segments=KINDS, apart=st.sampled_from([0, 2, 5]), beam_size=st.integers(1, 4), seed=SEEDS)
@settings(max_examples=15)
def test_a_narrow_beam_is_that_of_the_plain_search(segments: Segments, apart: int, beam_size: int, seed: int) -> None:
    memory = toy_frames([5], seed)
    search = toy_search(segments, seed, beam_size=beam_size, nbest=beam_size, apart=apart)
    expected = plain_beam(plain_utterance(search.decoder, memory, 0), beam_size, apart)
    found = search(memory)[0]
    assert [tuple(h.tokens) for h in found] == [labels for labels, _, _ in expected]
    assert [boundaries(h) for h in found] == [ends for _, ends, _ in expected]
    assert [h.score for h in found] == pytest.approx([score for *_, score in expected], abs=1e-9)


@given(apart=APART, lengths=LENGTHS, seed=SEEDS)
@settings(max_examples=8)
def test_a_high_threshold_loses_nothing_and_a_low_one_only_what_is_worse(
    apart: int, lengths: list[int], seed: int
) -> None:
    memory = toy_frames(lengths, seed)
    searches = [toy_search(None, seed, beam_size=4, apart=apart, threshold=each) for each in (None, 1e4, 2.0)]
    for all_, high, low in zip(*(search(memory) for search in searches), strict=True):
        same(high, all_)
        assert low[0].score <= all_[0].score + 4.0  # a narrow beam is no better for being without a threshold


def test_what_is_attended_to_at_once_does_not_grow_with_the_utterance(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = set()
    search = toy_search(Segments(max_frames=4, left=1, right=2), beam_size=3, apart=2)
    predict = search.decoder.predict

    def spy(labels: Any, kept: Any, shown: Any) -> Any:
        sizes.add((shown.size(-1), kept[0][0].size(2)))
        return predict(labels, kept, shown)

    monkeypatch.setattr(search.decoder, "predict", spy)
    beam = search.step(toy_frames([60]), search.start(1, toy_frames([1])))
    assert max(sizes) == (7, 7)
    assert beam.context.shape == (1, 4, 6)
    assert beam.pending[0].shape == (2, 6)
    assert beam.open.scores.shape == (1, 9)


def test_hypotheses_with_the_same_future_become_one() -> None:
    scores = torch.tensor([[-1.0, -2.0, -math.inf, -0.5, -3.0]], dtype=torch.float64)
    keys = torch.tensor([[7, 8, 7, 8, 9]])
    never = -math.inf
    assert recombined(scores, keys, total=False).tolist() == [[-1.0, never, never, -0.5, -3.0]]
    total = recombined(scores, keys, total=True)
    assert total[0, 3].item() == pytest.approx(math.log(math.exp(-2.0) + math.exp(-0.5)))
    assert total[0, [0, 1, 2, 4]].tolist() == pytest.approx([-1.0, never, never, -3.0])


def test_blank_bos_and_eos_are_never_said() -> None:
    search = toy_search(beam_size=5, nbest=5)
    with torch.no_grad():
        search.decoder.out.bias[[0, 2, 3]] = 100.0
    for hypothesis in search(toy_frames([6]))[0]:
        assert not {0, 2, 3} & {*hypothesis.tokens}


def test_an_utterance_without_frames_is_empty() -> None:
    search = toy_search(beam_size=3)
    found = search(Memory(torch.zeros(2, 3, 6).double(), torch.tensor([0, 3])))
    assert (found[0][0].tokens, found[0][0].score, found[0][0].frames) == ([], 0.0, [])


def test_what_is_not_a_number_is_named_with_its_utterance() -> None:
    memory, search = toy_frames([4, 4]), toy_search(beam_size=3)
    memory.states[1, 2] = math.nan
    with pytest.raises(UtteranceError, match=r"utterance 2 of the batch: the model's output is not a number"):
        search(memory)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nbest": 3, "beam_size": 2}, r"nbest=3: expected 1 to beam_size=2"),
        ({"apart": -1}, r"apart=-1: expected 0 or more"),
        ({"recombine": "mx"}, r"recombine=mx: expected max or sum\. Did you mean 'max'"),
        ({"threshold": 0.0}, r"threshold=0\.0: expected more than 0"),
    ],
)
def test_values_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        toy_search(**options)
