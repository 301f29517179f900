"""Segmental models of random weights."""

from __future__ import annotations

from typing import Any

import torch
from toy import BOS, toy_model
from toy_stream import RATE, sound, streaming_bundle

from s2s.models.build import build
from s2s.models.bundle import Bundle
from s2s.models.segmental import SegmentalModel
from s2s.models.segmental_decoder import SegmentalDecoder


def segmental_model(vocab_size: int = 6, seed: int = 0, **options: Any) -> SegmentalModel:
    """As `toy_model`, with a segmental decoder of these options, in float64."""
    hybrid = toy_model(vocab_size, seed).float()
    decoder = SegmentalDecoder(vocab_size, 16, 16, 2, 2, 32, **options)
    given = (vocab_size, hybrid.normalise, hybrid.encoder, decoder)
    model = SegmentalModel(*given, min_confidence=0.0)  # type: ignore[arg-type]
    model.ctc = hybrid.ctc
    talkative(model)
    return model.double().eval()


def talkative(model: SegmentalModel) -> None:
    """Outputs that differ clearly, and segments that end."""
    with torch.no_grad():
        model.decoder.out.weight *= 4
        model.decoder.length.out.weight *= 6
        model.decoder.length.out.bias += 1.5


def segmental_bundle(convolution: str = "chunked", **segments: Any) -> Bundle[SegmentalModel]:
    """An untrained bundle for 8 kHz speech, whose encoder hears chunks; the decoder speaks of what it hears."""
    hybrid = streaming_bundle(convolution)
    config = {
        **hybrid.model_config,
        "_target_": "s2s.models.segmental.SegmentalModel",
        "decoder": {
            **hybrid.model_config["decoder"],
            "_target_": "s2s.models.segmental_decoder.SegmentalDecoder",
            "segments": segments,
        },
    }
    torch.manual_seed(2)
    model = build(config).eval()
    assert isinstance(model, SegmentalModel)
    model.normalise, model.encoder, model.ctc = hybrid.model.normalise, hybrid.model.encoder, hybrid.model.ctc
    decoder = model.decoder
    with torch.no_grad():
        states = model.encode(*hybrid.features(sound(9.0, 1)[None], torch.tensor([9 * RATE]))).states
        for layer in decoder.layers:
            layer.memory_attention.heads.out.weight *= 8
        decoder.length.frame.weight *= 8
        decoder.length.out.weight *= 8
        frames, kept = decoder.frames(states)
        label, _ = decoder.read(torch.tensor([[BOS]]), decoder.no_labels(1))
        decoder.length.out.bias -= decoder.length(frames, decoder.length.labels(label)).mean() - 1.5
        ends = torch.arange(1, frames.size(1) + 1)
        shown = decoder.segments.shown(ends - 4, ends, ends - 1).unsqueeze(0)
        decoder.out.weight *= 8
        log_probs, _ = decoder.predict(label.expand(-1, len(ends), -1), kept, shown)
        decoder.out.bias -= log_probs[0].mean(dim=0)  # every label is the best of some segments
    return Bundle(model, hybrid.tokenizer, hybrid.features, config)
