"""The best path piece by piece is the best path."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pieces import cut, fed, same, sessions
from plain_ctc import random_memory

from s2s.decoding.alignment import token_spans
from s2s.decoding.ctc import CTCGreedySearch, ctc_greedy
from s2s.decoding.hypothesis import UtteranceError
from s2s.decoding.streaming.ctc_greedy import StreamingCTCGreedySearch
from s2s.models.ctc import CTC
from s2s.models.memory import Memory

LENGTHS = st.lists(st.integers(0, 30), min_size=1, max_size=4).filter(any)


@given(lengths=LENGTHS, largest=st.integers(1, 9), seed=st.integers(0, 999))
@settings(max_examples=15)
def test_pieces_of_any_sizes_give_what_the_whole_gives(lengths: list[int], largest: int, seed: int) -> None:
    memory, ctc = random_memory(lengths, seed, 4)
    for found, expected in zip(
        fed(StreamingCTCGreedySearch(ctc), memory, seed, largest), CTCGreedySearch(ctc)(memory), strict=True
    ):
        same(found, expected)


@given(lengths=st.lists(st.integers(1, 20), min_size=2, max_size=4), seed=st.integers(0, 999))
@settings(max_examples=10)
def test_sessions_in_any_company_find_what_they_find_alone(lengths: list[int], seed: int) -> None:
    memory, ctc = random_memory(lengths, seed, 4)
    for found, expected in zip(
        sessions(StreamingCTCGreedySearch(ctc), memory, seed), CTCGreedySearch(ctc)(memory), strict=True
    ):
        same(found, expected)


@given(length=st.integers(1, 30), seed=st.integers(0, 999))
@settings(max_examples=15)
def test_every_partial_is_the_best_path_so_far_with_its_score_and_frames(length: int, seed: int) -> None:
    memory, ctc = random_memory([length], seed, 4)
    search, log_probs = StreamingCTCGreedySearch(ctc), ctc(memory).detach()
    state = search.start(1, memory)
    for t in range(length):
        state = search.step(cut(memory, [t], [t + 1]), state)
        partial, heard = search.partials(state)[0], torch.tensor([t + 1])
        so_far = log_probs[:, : t + 1]
        assert [partial.hypothesis.tokens] == ctc_greedy(so_far, heard)
        assert partial.num_stable == len(partial.hypothesis.tokens)
        assert partial.hypothesis.score == pytest.approx(so_far.amax(-1).sum().item(), abs=1e-9)
        # The best path is the best alignment of its labels.
        assert [partial.hypothesis.frames] == token_spans(so_far, heard, [partial.hypothesis.tokens])


def path_of(labels: list[int]) -> tuple[Memory, CTC]:
    """A memory whose best path is given."""
    ctc = CTC(4, 4)
    with torch.no_grad():
        ctc.out.weight.copy_(torch.eye(4))
        ctc.out.bias.zero_()
    return Memory(9 * torch.eye(4)[labels].unsqueeze(0), torch.tensor([len(labels)])), ctc


@pytest.mark.parametrize("border", range(1, 7))
def test_a_label_on_both_sides_of_a_border_is_one_token_and_with_a_blank_between_two(border: int) -> None:
    memory, ctc = path_of([2, 2, 0, 2, 2, 3, 3])
    search = StreamingCTCGreedySearch(ctc)
    state = search.step(cut(memory, [0], [border]), search.start(1, memory))
    found = search.finish(search.step(cut(memory, [border], [7]), state))[0][0]
    assert (found.tokens, found.frames) == ([2, 2, 3], [(0, 2), (3, 5), (5, 7)])


def test_a_hypothesis_once_given_does_not_change() -> None:
    memory, ctc = path_of([2, 2, 3])
    search = StreamingCTCGreedySearch(ctc)
    state = search.step(cut(memory, [0], [1]), search.start(1, memory))
    before, alone = search.partials(state)[0].hypothesis, search.rows(state, [0])
    search.step(cut(memory, [1], [3]), state)
    assert (before.tokens, before.frames) == ([2], [(0, 1)])
    assert search.partials(alone)[0].hypothesis == before


def test_a_model_that_gives_no_number_is_named_with_its_utterance() -> None:
    memory, ctc = random_memory([5, 5], 0)
    memory.states[1, 2] = math.nan
    search = StreamingCTCGreedySearch(ctc)
    with pytest.raises(UtteranceError, match=r"utterance 2 of the batch: the model's output is not a number"):
        search.step(memory, search.start(2, memory))
