"""Streams of a segmental model: what they say is what it says of the whole under the same mask."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from toy_segmental import segmental_bundle
from toy_stream import sound

from s2s.decoding.config import load_decoding_config
from s2s.decoding.streaming.endpoint import EndpointConfig
from s2s.streaming.hybrid import ChunkStreamer
from s2s.transcription.hybrid import HybridTranscriber


@pytest.mark.parametrize("search", ["segmental", "time_synchronous"])
@pytest.mark.parametrize("right", [0, 3])
def test_a_stream_ends_with_the_offline_text_and_times(search: str, right: int) -> None:
    bundle, samples = segmental_bundle(max_frames=8, right=right), sound(3.3)
    asked = ["decoding=segmental", f"decoding.segment_search={search}", "decoding.token_times=true"]
    config = replace(load_decoding_config(asked), chunk_size=4, left_chunks=2)
    (offline,) = HybridTranscriber(bundle, config).transcribe(samples)
    session = ChunkStreamer(bundle, config, EndpointConfig(0, 0, 0)).session()
    events = [event for start in range(0, len(samples), 800) for event in session.feed(samples[start : start + 800])]
    events += session.finish()
    final = events[-1]
    assert final.kind == "final"
    assert final.text == offline.text.strip()
    assert len(final.text) > 5
    assert final.score == pytest.approx(offline.score, abs=1e-3)
    assert final.words == offline.words
    assert len(events) > 3
    assert any(event.stable for event in events[:-1])


def test_words_go_from_the_end_of_the_one_before_to_their_own() -> None:
    bundle, samples = segmental_bundle(max_frames=8), sound(3.3)
    transcriber = HybridTranscriber(bundle)
    (heard,) = transcriber.transcribe(samples, word_timestamps=True)
    assert heard.words
    aligned = transcriber.align(samples, heard.text)
    assert [word.text for word in aligned] == heard.text.split()
    assert all(a.end <= b.start for a, b in pairwise(aligned))
    assert all(word.start < word.end for word in [*aligned, *heard.words])
