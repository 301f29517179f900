"""Streams of a decoder whose heads stop: in pieces, what it says of the whole, and no later than it can."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pieces import any_like, cut, fed, same, sessions
from toy import toy_memory, toy_model
from toy_monotonic import monotonic_model

from s2s.decoding.beam import Beam
from s2s.decoding.engine import LabelSearch
from s2s.decoding.hypothesis import UtteranceError
from s2s.decoding.limits import Limits
from s2s.decoding.scorers import DecoderScorer
from s2s.decoding.streaming.attention import LastStop
from s2s.decoding.streaming.monotonic import Monotonic, MonotonicSearch
from s2s.decoding.streaming.policy import Proposal
from s2s.errors import UserError
from s2s.models.hybrid import HybridModel
from s2s.models.memory import Memory

KINDS: dict[str, dict[str, Any]] = {
    "hard": {"lookback": "none"},
    "chunk": {"lookback": "chunk", "lookback_frames": 3},
    "infinite": {},
    "waiting": {"head_wait": 2},
}


def label_search(model: HybridModel, beam_size: int = 1, **options: Any) -> LabelSearch:
    scorers = {"attention": (DecoderScorer(model.decoder), 1.0)}
    forbidden = (model.blank_id, model.bos_id)
    return LabelSearch(scorers, Beam(beam_size), 8, model.bos_id, model.eos_id, forbidden, **options)


@pytest.mark.parametrize("kind", KINDS)
@given(lengths=st.lists(st.integers(1, 16), min_size=2, max_size=2), seed=st.integers(0, 99))
@settings(max_examples=3)
def test_greedy_search_in_pieces_finds_what_it_finds_offline(kind: str, lengths: list[int], seed: int) -> None:
    model, memory = monotonic_model(seed=seed, **KINDS[kind]), toy_memory(lengths, seed)
    for limits in (Limits(0.5), Limits(0.7, min_length_ratio=0.2)):
        offline = label_search(model, limits=limits)
        search, expected = MonotonicSearch(offline, model.decoder), offline(memory)
        for streamed in (fed(search, memory, seed), sessions(search, memory, seed)):
            for found, best in zip(streamed, expected, strict=True):
                same(found, best, frames=False)


@given(seed=st.integers(0, 99))
@settings(max_examples=3)
def test_a_token_is_said_with_the_first_frame_after_the_one_where_its_last_head_stopped(seed: int) -> None:
    model, memory = monotonic_model(seed=seed), toy_memory([20], seed)
    offline = label_search(model, limits=Limits(0.5))
    search, tokens = MonotonicSearch(offline, model.decoder), offline(memory)[0][0].tokens
    last = model.decoder.stops(memory, torch.tensor([[model.bos_id, *tokens]])).amax(dim=1)[0]  # type: ignore[attr-defined]
    state = search.start(1, any_like(memory))
    for heard in range(1, 20):
        state = search.step(cut(memory, [heard - 1], [heard]), state)
        (partial,) = search.partials(state)
        settled = [i for i, frame in enumerate(last[:-1].tolist()) if frame < heard - 1 and i < int(0.5 * heard)]
        assert partial.num_stable == len(settled)
        assert partial.hypothesis.tokens == tokens[: partial.num_stable]  # and what is not settled is not shown
        assert partial.hypothesis.frames == [(frame, frame + 1) for frame in last[: partial.num_stable].tolist()]


@given(lengths=st.lists(st.integers(0, 20), min_size=1, max_size=3).filter(any), seed=st.integers(0, 99))
@settings(max_examples=4)
def test_a_wider_beam_keeps_what_it_said(lengths: list[int], seed: int) -> None:
    model, memory = monotonic_model(seed=seed), toy_memory(lengths, seed)
    search = MonotonicSearch(label_search(model, 4, limits=Limits(0.5)), model.decoder)
    for found, length in zip(fed(search, memory, seed), lengths, strict=True):  # which looks at what is stable
        assert len(found) == 1
        assert length or not found[0].tokens


def test_new_frames_of_none_change_nothing() -> None:
    model, memory = monotonic_model(), toy_memory([8, 5])
    search = MonotonicSearch(label_search(model), model.decoder)
    state = search.step(memory, search.start(2, any_like(memory)))
    again = search.step(cut(memory, [8, 5], [8, 5]), state)
    assert search.partials(again) == search.partials(state)


def test_an_output_that_is_not_a_number_is_of_its_utterance() -> None:
    model, memory = monotonic_model(), toy_memory([8, 5, 6])
    memory.states[2] = float("nan")
    search = MonotonicSearch(label_search(model), model.decoder)
    with pytest.raises(UtteranceError) as caught:
        search.step(cut(memory, [0, 0, 0], [8, 0, 6]), search.start(3, any_like(memory)))
    assert caught.value.utterance == 2


def test_the_last_stop_of_what_was_read_to_the_end_is_at_the_end_of_what_was_heard() -> None:
    model, memory = monotonic_model(), toy_memory([12, 9])
    tokens = torch.tensor([[2, 4, 5, 6, 7], [2, 5, 4, 4, 6]])
    last = model.decoder.stops(memory, tokens).amax(dim=1)  # type: ignore[attr-defined]
    attend = LastStop(model.decoder)
    for heard in ([12, 9], [14, 10], [10, 9], [2, 1]):
        weights = attend(memory, tokens, torch.tensor([5, 5]), torch.tensor(heard))
        assert torch.equal(weights.sum(dim=-1), torch.ones(2, 5).double())
        for b in range(2):
            for i in range(5):
                stop = int(last[b, i])
                expected = heard[b] - 1 if stop == (11, 8)[b] else min(stop, heard[b] - 1)
                assert int(weights[b, i].argmax()) == expected


def test_the_policy_commits_to_what_has_stopped() -> None:
    stops = torch.nn.functional.one_hot(torch.tensor([0, 3, 5, 8, 9, 9]), 10).double()
    for frames, expected in ((1, 4), (2, 3), (5, 2), (10, 0)):
        proposal = Proposal([4] * 8, [True] * 8, 2, 10, stops)
        assert Monotonic(frames).commit(proposal, None)[0] == 2 + expected
    with pytest.raises(UserError, match=r"policy\.frames=0: expected 1 or more"):
        Monotonic(0)


def test_a_decoder_whose_heads_do_not_stop_is_refused() -> None:
    model = toy_model(8)
    with pytest.raises(UserError, match=r"policy\.name=monotonic: no head of this decoder stops"):
        MonotonicSearch(label_search(model), model.decoder)


def test_the_memory_is_that_of_all_that_was_heard() -> None:
    model, memory = monotonic_model(), toy_memory([8, 5])
    search = MonotonicSearch(label_search(model), model.decoder)
    state = search.start(2, any_like(memory))
    for start in range(0, 8, 3):
        stops = [min(start + 3, n) for n in (8, 5)]
        state = search.step(cut(memory, [min(start, n) for n in (8, 5)], stops), state)
    for each, own, length in zip(state, memory.states, (8, 5), strict=True):
        assert isinstance(each.heard, Memory)
        assert torch.equal(each.heard.states[0], own[:length])
