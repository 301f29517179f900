"""Segmental searches piece by piece: the offline search, in any company."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pieces import any_like, cut, fed, in_pieces, same, sessions
from plain_segmental import SEGMENTS, DecoderOnly, toy_decoder, toy_frames

from s2s.decoding.hypothesis import UtteranceError
from s2s.decoding.segmental import SegmentalSearch
from s2s.decoding.streaming.segmental import StreamingSegmentalSearch
from s2s.nn.segments import Segments

LENGTHS = st.lists(st.integers(0, 20), min_size=1, max_size=3).filter(any)
KINDS = st.sampled_from(SEGMENTS)


def toy_search(segments: Segments, seed: int, apart: int, recombine: str = "max") -> SegmentalSearch:
    return SegmentalSearch(DecoderOnly(toy_decoder(segments, seed)), 3, 2, apart, recombine, 8.0)


@given(
    segments=KINDS,
    lengths=LENGTHS,
    largest=st.integers(1, 9),
    apart=st.sampled_from([0, 3]),
    recombine=st.sampled_from(["max", "sum"]),
    seed=st.integers(0, 999),
)
@settings(max_examples=15)
def test_pieces_of_any_sizes_give_what_the_offline_search_gives(
    segments: Segments, lengths: list[int], largest: int, apart: int, recombine: str, seed: int
) -> None:
    memory, search = toy_frames(lengths, seed), toy_search(segments, seed, apart, recombine)
    for found, expected in zip(
        fed(StreamingSegmentalSearch(search), memory, seed, largest), search(memory), strict=True
    ):
        same(found, expected)


@given(segments=KINDS, lengths=st.lists(st.integers(1, 20), min_size=2, max_size=3), seed=st.integers(0, 999))
@settings(max_examples=12)
def test_sessions_in_any_company_find_what_they_find_alone(segments: Segments, lengths: list[int], seed: int) -> None:
    memory, search = toy_frames(lengths, seed), toy_search(segments, seed, 3)
    for b, found in enumerate(sessions(StreamingSegmentalSearch(search), memory, seed)):
        same(found, search(memory.rows(b, b + 1))[0])


def test_labels_come_while_more_is_to_come_and_are_stable_before_the_end() -> None:
    memory, search = toy_frames([40]), StreamingSegmentalSearch(toy_search(Segments(max_frames=3, right=1), 0, 3))
    state, stable = search.start(1, any_like(memory)), []
    for piece, (heard,) in in_pieces(memory, 0):
        state = search.step(piece, state)
        partial = search.partials(state)[0]
        stable.append(partial.num_stable)
        assert partial.hypothesis.frames is not None
        assert all(end < heard for _, end in partial.hypothesis.frames)  # a frame more has to be heard
    assert sorted(stable) == stable
    assert stable[-1] > 0


def test_what_a_state_keeps_of_frames_does_not_grow() -> None:
    memory, search = toy_frames([60]), StreamingSegmentalSearch(toy_search(Segments(max_frames=3, right=2), 0, 2))
    state = search.start(1, any_like(memory))
    for start in range(0, 60, 10):
        state = search.step(cut(memory, [start], [start + 10]), state)
        assert state.context.shape == (1, 2, 6)
        assert state.pending[0].shape == (2, 6)
        assert state.pending[0].untyped_storage().nbytes() == 2 * 6 * 8
        assert state.open.scores.shape == (1, 9)
        assert len(state.history[0]) <= start + 10


def test_an_utterance_of_which_nothing_was_heard_is_empty() -> None:
    search = StreamingSegmentalSearch(toy_search(Segments(), 0, 3))
    state = search.start(2, any_like(toy_frames([3])))
    assert [partial.hypothesis.tokens for partial in search.partials(state)] == [[], []]
    assert [found[0].tokens for found in search.finish(state)] == [[], []]


def test_a_model_that_gives_no_number_is_named_with_its_utterance() -> None:
    memory, search = toy_frames([5, 3]), StreamingSegmentalSearch(toy_search(Segments(), 0, 3))
    memory.states[1, 2] = torch.nan
    with pytest.raises(UtteranceError, match=r"utterance 2 of the batch: the model's output is not a number"):
        search.step(memory, search.start(2, memory))
