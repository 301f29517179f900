"""Sessions of a hybrid model: what they say is what the model says of the whole under the same mask."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from toy_stream import RATE, sound, streaming_bundle

from s2s.audio.resample import resample
from s2s.decoding.config import load_decoding_config
from s2s.decoding.streaming.endpoint import EndpointConfig
from s2s.errors import UserError
from s2s.streaming.event import StreamEvent
from s2s.streaming.hybrid import ChunkStreamer
from s2s.transcription.hybrid import HybridTranscriber

NEVER = EndpointConfig(0, 0, 0)
DECODINGS = ("ctc_greedy", "ctc_prefix", "rescoring", "joint")
BUNDLE = streaming_bundle()


def streamer(
    decoding: str = "ctc_greedy", size: int = 3, left: int = 2, endpoint: EndpointConfig = NEVER
) -> ChunkStreamer:
    config = replace(load_decoding_config([f"decoding={decoding}"]), chunk_size=size, left_chunks=left)
    return ChunkStreamer(BUNDLE, config, endpoint)


def told(which: ChunkStreamer, samples: Tensor, sizes: Sequence[int]) -> list[StreamEvent]:
    """All events of samples fed in pieces of these sizes, the last one as often as is needed."""
    session, events = which.session(), []
    sizes = list(sizes)
    while len(samples):
        size = sizes.pop(0) if len(sizes) > 1 else sizes[0]
        events += session.feed(samples[:size])
        samples = samples[size:]
    return events + session.finish()


def finals(events: Sequence[StreamEvent]) -> list[StreamEvent]:
    return [event for event in events if event.kind == "final"]


@pytest.mark.parametrize("decoding", ["ctc_greedy", "ctc_prefix", "rescoring"])
@pytest.mark.parametrize(("size", "left"), [(1, 4), (3, 2), (8, 1)])
def test_a_stream_ends_with_the_offline_text_under_the_same_mask(decoding: str, size: int, left: int) -> None:
    config = replace(load_decoding_config([f"decoding={decoding}"]), chunk_size=size, left_chunks=left)
    if decoding == "ctc_greedy":
        config = replace(config, token_times=True)
    samples = sound(3.3)
    (offline,) = HybridTranscriber(BUNDLE, config).transcribe(samples)
    events = told(ChunkStreamer(BUNDLE, config, NEVER), samples, [800])
    (final,) = finals(events)
    assert final.text == offline.text.strip()
    assert len(final.text) > 5
    assert final.score == pytest.approx(offline.score, abs=1e-3)
    assert len(events) > 3


def test_pieces_of_one_sample_give_the_same_events_at_the_same_times() -> None:
    samples = sound(0.7)
    for decoding in ("ctc_greedy", "rescoring"):
        which = streamer(decoding)
        one, some = told(which, samples, [1]), told(which, samples, [80])
        assert [replace(e, heard=0.0) for e in one] == [replace(e, heard=0.0) for e in some]
        assert all(a.heard <= b.heard < a.heard + 80 / RATE for a, b in zip(one[:-1], some[:-1], strict=True))


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(1, 9000), min_size=1, max_size=8), st.integers(1, 16000), st.sampled_from(DECODINGS))
def test_pieces_of_any_size_give_the_same_final_text(sizes: list[int], length: int, decoding: str) -> None:
    which, samples = streamer(decoding), sound(2.0, seed=length)[:length]
    whole = finals(told(which, samples, [len(samples)]))
    assert [e.text for e in finals(told(which, samples, sizes))] == [e.text for e in whole]


@pytest.mark.parametrize("decoding", DECODINGS)
def test_sessions_heard_together_say_what_each_says_alone(decoding: str) -> None:
    which = streamer(decoding, endpoint=EndpointConfig(0, 0, 1.0))
    streams = [sound(seconds, seed) for seed, seconds in enumerate((2.6, 0.9, 1.7))]
    sessions = [which.session() for _ in streams]
    events: list[list[StreamEvent]] = [[] for _ in streams]
    left = list(streams)
    while any(len(samples) for samples in left) or not all(session.closed for session in sessions):
        for number, (session, samples) in enumerate(zip(sessions, left, strict=True)):
            size = 700 + 300 * number  # they speak at different speeds, and end at different times
            if len(samples):
                session.push(samples[:size])
                left[number] = samples[size:]
            elif not session.closed:
                session.close()
        while done := which.process(sessions):
            for session, new in done.items():
                events[sessions.index(session)] += new
    for number, samples in enumerate(streams):
        alone = told(which, samples, [700 + 300 * number])
        assert [(e.kind, e.text, e.words) for e in events[number]] == [(e.kind, e.text, e.words) for e in alone]


def test_a_segment_is_what_the_model_says_of_its_stretch_alone() -> None:
    which, samples = streamer("rescoring", endpoint=EndpointConfig(0, 0, 0.96)), sound(3.0)
    found = finals(told(which, samples, [555]))
    assert len(found) == 4
    first = 0
    for event in found[:-1]:
        frames = 24  # 0.96 s; six more feature frames are in view of the last of them
        stretch = samples[first * 80 : (first + 4 * frames + 2) * 80 + 200]
        config = replace(load_decoding_config(["decoding=rescoring"]), chunk_size=3, left_chunks=2)
        (offline,) = HybridTranscriber(BUNDLE, config).transcribe(stretch)
        assert event.text == offline.text.strip()
        first += 4 * frames
        assert event.words is not None
        assert (first - 96) * 0.01 <= event.start <= event.end <= first * 0.01 + 1e-6


def test_what_is_stable_never_changes_and_a_final_is_all_of_it() -> None:
    events = told(streamer("ctc_prefix", size=2, endpoint=EndpointConfig(0, 0, 1.5)), sound(4.0), [400])
    stable = ""
    for event in events:
        assert event.text.startswith(event.stable)
        assert event.text.startswith(stable)
        stable = "" if event.kind == "final" else event.stable
        assert event.kind == "partial" or event.stable == event.text
    assert any(event.stable for event in events if event.kind == "partial")


def test_times_are_of_the_stream_and_within_what_was_heard() -> None:
    events = told(streamer(endpoint=EndpointConfig(0, 0, 1.0)), sound(3.0), [400])
    starts = [event.start for event in finals(events)]
    assert starts == sorted(starts)
    assert starts[-1] > 1.9
    for event in events:
        assert 0.0 <= event.start <= event.end <= event.heard + 1e-6 <= 3.0 + 1e-6


def test_an_utterance_ends_after_silence_behind_its_words() -> None:
    which = streamer(endpoint=EndpointConfig(0, 0.4, 0))
    with torch.no_grad():
        quiet = torch.zeros(2 * RATE)
    events = told(which, torch.cat((sound(1.0), quiet, sound(1.0, 3), quiet)), [400])
    # An untrained model may hear something in silence; where it does not, two utterances were said.
    texts = [event.text for event in finals(events)]
    alone = [event.text for event in finals(told(which, torch.cat((sound(1.0), quiet)), [400]))]
    assert texts[: len(alone)] == alone
    assert len(texts) > len(alone)


def test_a_session_holds_no_more_after_ten_minutes_than_after_one() -> None:
    which = streamer("rescoring", size=8, endpoint=EndpointConfig(5, 1, 3.0))
    minute, session, held = sound(60.0), which.session(), []
    for _ in range(10):
        for piece in minute.split(RATE):
            session.feed(piece)
        held.append(bytes_of(session))
    assert max(held[1:]) <= 1.5 * held[0]
    assert held[0] < 2e6


def bytes_of(root: object) -> int:
    """Of all tensors that are reached from an object, without those of the model."""
    seen, queue, total = {id(BUNDLE), id(BUNDLE.model), id(BUNDLE.features)}, [root], 0
    while queue:
        each = queue.pop()
        if (
            id(each) in seen
            or isinstance(each, type | torch.nn.Module)
            or type(each).__name__ in ("module", "function")
        ):
            continue
        seen.add(id(each))
        if isinstance(each, Tensor):
            total += each.untyped_storage().nbytes()
        queue += gc.get_referents(each)
    return total


def test_samples_of_another_rate_are_resampled() -> None:
    which, samples = streamer(), sound(1.5)
    high = resample(samples, RATE, 48000)
    session = which.session(48000)
    events = [event for piece in high.split(3001) for event in session.feed(piece)] + session.finish()
    expected = finals(told(which, resample(high, 48000, RATE), [800]))
    assert [event.text for event in finals(events)] == [event.text for event in expected]


@pytest.mark.parametrize("length", [0, 1, 150, 199, 200, 300, 680])
def test_streams_too_short_for_a_chunk_or_a_frame_end_without_harm(length: int) -> None:
    which = streamer()
    events = told(which, sound(1.0)[:length], [64])
    assert all(event.kind == "final" for event in events[-1:])
    if length >= 200:
        config = replace(load_decoding_config(["decoding=ctc_greedy"]), chunk_size=3, left_chunks=2)
        (offline,) = HybridTranscriber(BUNDLE, config).transcribe(sound(1.0)[:length])
        assert " ".join(event.text for event in finals(events)) == offline.text.strip()


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (torch.zeros(2, 5), r"shape \(2, 5\)"),
        (torch.zeros(5, dtype=torch.int16), r"type torch\.int16"),
        (torch.tensor([float("nan")]), r"not finite"),
    ],
)
def test_what_is_no_sound_is_refused_and_the_session_goes_on(samples: Tensor, message: str) -> None:
    which, whole = streamer(), sound(1.0)
    session = which.session()
    events = session.feed(whole[:4000])
    with pytest.raises(UserError, match=message):
        session.feed(samples)
    events += session.feed(whole[4000:]) + session.finish()
    assert [e.text for e in finals(events)] == [e.text for e in finals(told(which, whole, [4000]))]
    with pytest.raises(UserError, match=r"the session has ended"):
        session.feed(whole)


def test_a_model_that_hears_whole_utterances_alone_is_refused() -> None:
    with pytest.raises(UserError, match=r"convolution=symmetric"):
        ChunkStreamer(
            streaming_bundle("symmetric"),
            replace(load_decoding_config(["decoding=ctc_greedy"]), chunk_size=3, left_chunks=2),
        )
    with pytest.raises(UserError, match=r"left_chunks=null"):
        ChunkStreamer(BUNDLE, replace(load_decoding_config(["decoding=ctc_greedy"]), chunk_size=3))
