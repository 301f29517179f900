"""Streams of models that hear whole utterances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from toy_stream import RATE, sound, streaming_bundle

from s2s.decoding.build import build_search
from s2s.decoding.config import load_decoding_config
from s2s.decoding.engine import LabelSearch
from s2s.decoding.streaming.align_att import AlignAtt
from s2s.decoding.streaming.attention import HeadMean
from s2s.decoding.streaming.endpoint import EndpointConfig
from s2s.decoding.streaming.local_agreement import LocalAgreement
from s2s.decoding.streaming.policy import Policy
from s2s.decoding.streaming.simultaneous import SimultaneousSearch
from s2s.decoding.streaming.words import word_starts
from s2s.errors import UserError
from s2s.streaming.ears import HybridEar
from s2s.streaming.event import StreamEvent
from s2s.streaming.whole import WholeStreamer
from s2s.transcription.hybrid import HybridTranscriber

BUNDLE = streaming_bundle("symmetric")
CONFIG = replace(load_decoding_config(["decoding=joint"]), ctc_weight=0.9, beam_size=3)
NEVER = EndpointConfig(0, 0, 0)
POLICIES: list[Policy] = [LocalAgreement(), AlignAtt(4)]


def streamer(policy: Policy, endpoint: EndpointConfig = NEVER, chunk: float = 0.5) -> WholeStreamer:
    search = build_search(CONFIG, [BUNDLE.model], BUNDLE.tokenizer)
    assert isinstance(search, LabelSearch)
    simultaneous = SimultaneousSearch(search, policy, HeadMean(BUNDLE.model.decoder), word_starts(BUNDLE.tokenizer))
    return WholeStreamer(HybridEar(BUNDLE), simultaneous, chunk, endpoint)


def told(which: WholeStreamer, samples: Tensor, sizes: Sequence[int]) -> list[StreamEvent]:
    session, events, sizes = which.session(), [], list(sizes)
    while len(samples):
        size = sizes.pop(0) if len(sizes) > 1 else sizes[0]
        events += session.feed(samples[:size])
        samples = samples[size:]
    return events + session.finish()


def finals(events: Sequence[StreamEvent]) -> list[str]:
    return [event.text for event in events if event.kind == "final"]


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_fed_in_one_step_a_stream_says_what_the_model_says_offline(policy: Policy) -> None:
    samples = sound(2.3)
    (offline,) = HybridTranscriber(BUNDLE, CONFIG).transcribe(samples)
    assert finals(told(streamer(policy, chunk=3.0), samples, [9999])) == [offline.text.strip()]
    assert len(offline.text) > 5


@settings(max_examples=8, deadline=None)
@given(st.lists(st.integers(1, 9000), min_size=1, max_size=6), st.integers(1, 20000), st.sampled_from(POLICIES))
def test_pieces_of_any_size_give_the_same_events(sizes: list[int], length: int, policy: Policy) -> None:
    which, samples = streamer(policy, EndpointConfig(0, 0, 1.5)), sound(3.0, seed=length)[:length]
    whole = told(which, samples, [length])
    assert [(e.kind, e.text, e.stable, e.words) for e in told(which, samples, sizes)] == [
        (e.kind, e.text, e.stable, e.words) for e in whole
    ]


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_what_is_committed_to_never_changes_and_no_word_is_half(policy: Policy) -> None:
    for seed in range(4):
        stable: list[str] = []
        for event in told(streamer(policy), sound(4.0, seed), [800]):
            words = event.text.split()
            assert words[: len(stable)] == stable
            assert event.text.startswith(event.stable)
            stable = [] if event.kind == "final" else event.stable.split()


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_sessions_heard_together_say_what_each_says_alone(policy: Policy) -> None:
    which = streamer(policy, EndpointConfig(0, 0, 1.5))
    streams = [sound(seconds, seed) for seed, seconds in enumerate((2.6, 0.9, 1.7))] + [torch.zeros(RATE)]
    opened = [which.session() for _ in streams]
    events: list[list[StreamEvent]] = [[] for _ in streams]
    for turn in range(40):
        for number, (session, samples) in enumerate(zip(opened, streams, strict=True)):
            size = 700 + 300 * number
            piece = samples[turn * size : (turn + 1) * size]
            if len(piece):
                session.push(piece)
            else:
                session.close()
        while done := which.process(opened):
            for session, new in done.items():
                events[opened.index(session)] += new
    for number, samples in enumerate(streams):
        alone = told(which, samples, [700 + 300 * number])
        assert [(e.kind, e.text) for e in events[number]] == [(e.kind, e.text) for e in alone]


def test_a_segment_ends_after_silence_and_silence_alone_is_not_heard() -> None:
    quiet = torch.zeros(4 * RATE)
    which = streamer(LocalAgreement(), EndpointConfig(2.0, 1.0, 20.0))
    samples = torch.cat((quiet, sound(1.0), quiet, sound(1.0, 3), quiet))
    events = told(which, samples, [800])
    found = [event for event in events if event.kind == "final"]
    assert len(found) == 2
    assert 4.0 <= found[0].heard <= 6.6
    assert 9.0 <= found[1].heard <= 11.6
    assert found[1].start >= 8.0
    assert told(which, quiet, [800]) == []


def test_a_long_segment_is_cut_behind_a_committed_word_and_nothing_is_held_for_long() -> None:
    which, samples = streamer(LocalAgreement(), EndpointConfig(0, 0, 2.0)), sound(20.0)
    session, most, events = which.session(), 0, []
    for piece in samples.split(800):
        events += session.feed(piece)
        most = max(most, len(session.stream.samples) + len(session.stream.waiting))
    events += session.finish()
    assert most <= 2.6 * RATE
    assert len(finals(events)) >= 8
    starts = [event.start for event in events if event.kind == "final"]
    assert starts == sorted(starts)
    assert all(event.end <= event.heard + 0.05 for event in events)


@pytest.mark.parametrize("length", [0, 1, 300, 799, 900])
def test_streams_that_are_too_short_end_without_harm(length: int) -> None:
    events = told(streamer(LocalAgreement()), sound(1.0)[:length], [100])
    assert all(event.kind == "final" for event in events)


def test_a_chunk_that_cannot_be_is_refused() -> None:
    for chunk in (0.01, 31.0):
        with pytest.raises(UserError, match=r"chunk="):
            streamer(LocalAgreement(), chunk=chunk)
