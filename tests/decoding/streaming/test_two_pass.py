"""Two passes over a stream are two passes over the whole."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pieces import cut, fed, same, sessions
from toy import BOS, EOS, toy_memory, toy_model

from s2s.decoding.ctc_beam import CTCPrefixBeamSearch
from s2s.decoding.hypothesis import UtteranceError
from s2s.decoding.rescoring import Rescorer, RescoringSearch
from s2s.decoding.streaming.ctc_prefix import StreamingCTCPrefixSearch
from s2s.decoding.streaming.two_pass import TwoPassSearch
from s2s.models.transformer_decoder import TransformerDecoder
from s2s.nn.layer_fusion import SurfaceFusionConfig


def searches(seed: int, surface: bool = False) -> tuple[RescoringSearch, TwoPassSearch]:
    """Two decoders, left to right and right to left, over the 4 best of 5 prefixes."""
    model = toy_model(7, seed)
    fusion = SurfaceFusionConfig() if surface else None
    left, right = (TransformerDecoder(7, 16, 16, 2, 2, 32, surface_fusion=fusion).double().eval() for _ in range(2))
    for decoder in (left, right):
        torch.nn.init.normal_(decoder.out.weight)  # type: ignore[union-attr, arg-type]
    first = CTCPrefixBeamSearch(model.ctc, BOS, EOS, beam_size=5, nbest=4)
    rescorers = {"left": Rescorer(left, 0.5), "right": Rescorer(right, 0.4, reverse=True)}
    offline = RescoringSearch(first, rescorers, BOS, EOS, first_weight=0.3, length_bonus=0.2, nbest=4)
    return offline, TwoPassSearch(StreamingCTCPrefixSearch(first), offline)


@given(
    lengths=st.lists(st.integers(1, 20), min_size=1, max_size=4),
    surface=st.booleans(),
    largest=st.integers(1, 9),
    seed=st.integers(0, 999),
)
@settings(max_examples=12)
def test_pieces_of_any_sizes_give_what_offline_rescoring_gives(
    lengths: list[int], surface: bool, largest: int, seed: int
) -> None:
    offline, streaming = searches(seed, surface)
    memory = toy_memory(lengths, seed)
    for found, expected in zip(fed(streaming, memory, seed, largest), offline(memory), strict=True):
        same(found, expected, frames=False)
        for hypothesis in found:
            assert hypothesis.frames is not None
            assert len(hypothesis.frames) == len(hypothesis.tokens)


@given(lengths=st.lists(st.integers(1, 20), min_size=2, max_size=4), seed=st.integers(0, 999))
@settings(max_examples=8)
def test_sessions_in_any_company_find_what_they_find_alone(lengths: list[int], seed: int) -> None:
    offline, streaming = searches(seed)
    memory = toy_memory(lengths, seed)
    for b, found in enumerate(sessions(streaming, memory, seed)):
        same(found, offline(memory.rows(b, b + 1))[0], frames=False)


def test_the_second_pass_changes_which_hypothesis_is_best() -> None:
    changed = 0
    for seed in range(5):
        _, streaming = searches(seed)
        memory = toy_memory([12], seed)
        state = streaming.step(memory, streaming.start(1, memory))
        changed += streaming.partials(state)[0].hypothesis.tokens != streaming.finish(state)[0][0].tokens
    assert changed


def test_partials_are_those_of_the_first_pass() -> None:
    _, streaming = searches(0)
    memory = toy_memory([12, 3])
    state, alone = streaming.start(2, memory), streaming.first.start(2, memory)
    for t in range(0, 12, 4):
        piece = cut(memory, [t, min(t, 3)], [t + 4, 3])
        state, alone = streaming.step(piece, state), streaming.first.step(piece, alone)
        assert streaming.partials(state) == streaming.first.partials(alone)


def test_of_an_utterance_without_frames_there_is_nothing_to_rescore() -> None:
    offline, streaming = searches(0)
    memory = toy_memory([4])
    state = streaming.step(cut(memory, [0], [4]), streaming.start(1, memory))
    silent = streaming.start(1, memory)
    found = streaming.finish(streaming.join([silent, state]))
    assert [(h.tokens, h.score) for h in found[0]] == [([], 0.0)]
    same(found[1], offline(memory)[0], frames=False)
    assert [h.tokens for h in streaming.finish(streaming.start(1, memory))[0]] == [[]]


def test_a_session_keeps_no_frames_but_its_own() -> None:
    _, streaming = searches(0)
    memory = toy_memory([8, 8])
    state = streaming.step(memory, streaming.start(2, memory))
    assert all(heard.states.untyped_storage().nbytes() == heard.states.nbytes for heard in state.heard)


def test_a_decoder_that_gives_no_number_is_named_with_its_utterance() -> None:
    _, streaming = searches(0)
    memory = toy_memory([4])
    with torch.no_grad():
        streaming.rescoring.rescorers["right"].judge.out.bias.fill_(float("nan"))  # type: ignore[attr-defined]
    state = streaming.step(memory, streaming.start(1, memory))
    with pytest.raises(UtteranceError, match=r"utterance 2 of the batch: the model's output is not a number"):
        streaming.finish(streaming.join([streaming.start(1, memory), state]))
