"""A streaming model of random weights, and sound that it says something of."""

from __future__ import annotations

import torch
from torch import Tensor
from toy import toy_bundle

from s2s.audio.fbank import Fbank, FbankConfig
from s2s.audio.normalise import FeatureStatistics
from s2s.models.build import build
from s2s.models.bundle import Bundle
from s2s.models.hybrid import HybridModel

RATE = 8000


def streaming_bundle(convolution: str = "chunked") -> Bundle:
    """An untrained bundle whose CTC output changes with the sound, and is peaked enough to say something."""
    torch.manual_seed(1)
    toy = toy_bundle()
    config = {
        **toy.model_config,
        "encoder": {**toy.model_config["encoder"], "kernel_size": 5, "convolution": convolution},
    }
    model = build(config).eval()
    assert isinstance(model, HybridModel)
    features = Fbank(FbankConfig(sampling_rate=RATE, num_mel_bins=23))
    statistics = FeatureStatistics(23)
    statistics.add(features(sound(9.0)[None], torch.tensor([9 * RATE]))[0][0])
    with torch.no_grad():
        model.normalise.set_statistics(statistics)  # type: ignore[operator]
        states = model.encode(*features(sound(9.0, 1)[None], torch.tensor([9 * RATE]))).states[0]
        model.ctc.out.weight *= 8
        model.ctc.out.bias -= model.ctc.out(states).mean(dim=0)  # every label is the best of some frames
    return Bundle(model, toy.tokenizer, features, config)


def sound(seconds: float, seed: int = 0) -> Tensor:
    """Noise whose loudness changes, so that something is recognised."""
    generator = torch.Generator().manual_seed(seed)
    samples = torch.randn(round(seconds * RATE), generator=generator)
    loudness = torch.rand(len(samples) // 400 + 2, generator=generator)
    return 0.2 * samples * loudness.repeat_interleave(400)[: len(samples)]
