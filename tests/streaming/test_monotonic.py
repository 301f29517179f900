"""Sessions of a model whose heads stop: what they say is what it says of the whole under the same mask."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_stream import sound, streaming_bundle

from s2s.decoding.config import load_decoding_config
from s2s.decoding.streaming.endpoint import EndpointConfig
from s2s.models.build import build
from s2s.models.bundle import Bundle
from s2s.models.hybrid import HybridModel
from s2s.streaming.event import StreamEvent
from s2s.streaming.hybrid import ChunkStreamer
from s2s.tokenizers.base import SPACE
from s2s.transcription.hybrid import HybridTranscriber

SAMPLES = sound(2.4)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    """The toy that streams, with a decoder whose heads stop at various frames."""
    toy = streaming_bundle()
    torch.manual_seed(8)
    decoder = {**toy.model_config["decoder"], "cross_attention": {"kind": "monotonic", "stop_bias": -0.5}}
    config = {**toy.model_config, "decoder": decoder}
    model = build(config).eval()
    assert isinstance(model, HybridModel)
    own = {name: value for name, value in toy.model.state_dict().items() if not name.startswith("decoder.")}
    model.load_state_dict(own, strict=False)
    with torch.no_grad():
        memory = model.encode(*toy.features(SAMPLES[None], torch.tensor([len(SAMPLES)])))
        stop = model.decoder.layers[0].memory_attention.stop  # type: ignore[attr-defined]
        stop.key.bias -= stop.key(memory.states).mean(dim=(0, 1))  # energies change with the sound
        stop.key.weight *= 30
        stop.key.bias *= 30
        model.decoder.out.weight *= 4  # type: ignore[attr-defined]
        model.decoder.out.bias[toy.tokenizer.eos_id] -= 3  # type: ignore[attr-defined]
        model.decoder.out.bias[toy.tokenizer.pieces(range(10)).index(SPACE)] += 1  # type: ignore[attr-defined]
    return Bundle(model, toy.tokenizer, toy.features, config)


def told(bundle: Bundle, size: int, sizes: list[int], endpoint: EndpointConfig) -> list[StreamEvent]:
    decoding = load_decoding_config(["decoding=monotonic", "decoding.max_length_ratio=0.4"])
    session = ChunkStreamer(bundle, replace(decoding, chunk_size=size, left_chunks=2), endpoint).session()
    events, samples, sizes = [], SAMPLES, list(sizes)
    while len(samples):
        piece = sizes.pop(0) if len(sizes) > 1 else sizes[0]
        events += session.feed(samples[:piece])
        samples = samples[piece:]
    return events + session.finish()


@pytest.mark.parametrize("size", [1, 4, 9])
def test_a_stream_ends_with_the_offline_text_under_the_same_mask(bundle: Bundle, size: int) -> None:
    decoding = load_decoding_config(["decoding=monotonic", "decoding.max_length_ratio=0.4"])
    config = replace(decoding, chunk_size=size, left_chunks=2)
    (offline,) = HybridTranscriber(bundle, config).transcribe(SAMPLES)
    events = told(bundle, size, [800], EndpointConfig(0, 0, 0))
    assert [event.kind for event in events[-1:]] == ["final"]
    assert events[-1].text == offline.text.strip()
    assert len(events[-1].text) > 3
    assert events[-1].score == pytest.approx(offline.score, abs=1e-3)
    assert any(event.stable for event in events[:-1])
    assert all(events[-1].text.startswith(event.stable) for event in events)


@given(sizes=st.lists(st.integers(300, 9000), min_size=1, max_size=6))
@settings(max_examples=2, deadline=None)
def test_pieces_of_any_size_give_the_same_final_texts(bundle: Bundle, sizes: list[int]) -> None:
    for endpoint in (EndpointConfig(0, 0, 0), EndpointConfig(0, 0, 1.0)):
        found, whole = (told(bundle, 4, each, endpoint) for each in (sizes, [len(SAMPLES)]))
        texts = [[event.text for event in events if event.kind == "final"] for events in (found, whole)]
        assert texts[0] == texts[1]
