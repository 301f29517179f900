"""Features by their kind: what a bundle's config says is what its model hears."""

from __future__ import annotations

import math

import pytest
import torch
import yaml

from s2s.audio.fbank import Fbank, FbankConfig
from s2s.audio.features import Features, build_features, features_config
from s2s.audio.log_mel import LogMel, LogMelConfig
from s2s.errors import UserError

ALL: list[Features] = [
    Fbank(),
    Fbank(FbankConfig(sampling_rate=8000, num_mel_bins=23, dither=1.0, window="hamming", snip_edges=False)),
    LogMel(),
    LogMel(LogMelConfig(num_mel_bins=128)),
    LogMel(LogMelConfig(sampling_rate=8000, num_mel_bins=20, frame_length=0.032, frame_shift=0.02)),
]


@pytest.mark.parametrize("features", ALL)
def test_features_made_again_from_their_config_are_equal(features: Features) -> None:
    written = yaml.safe_load(yaml.safe_dump(features_config(features)))
    again = build_features(written)
    assert type(again) is type(features)
    assert again.config == features.config
    assert not again.training
    samples, lengths = torch.randn(2, 4000), torch.tensor([4000, 3000])
    expected, expected_lengths = features.eval()(samples, lengths)
    found, found_lengths = again(samples, lengths)
    assert torch.equal(found, expected)
    assert torch.equal(found_lengths, expected_lengths)


def test_a_config_without_a_kind_is_of_filterbanks() -> None:
    assert isinstance(build_features({"num_mel_bins": 40}), Fbank)
    assert isinstance(build_features({}), Fbank)
    assert isinstance(build_features({"kind": "log_mel"}), LogMel)


def test_a_whole_number_may_stand_for_any_number() -> None:
    assert build_features({"low_freq": 20}) is not None


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"kind": "logmel"}, r"config\.yaml: features\.kind: 'logmel', expected fbank or log_mel\. .* 'log_mel'"),
        ({"kind": ["fbank"]}, r"features\.kind: .* expected fbank or log_mel"),
        ({"kind": None}, r"features\.kind: 'None', expected fbank or log_mel"),
        ({"num_mels": 23}, r"config\.yaml: features\.num_mels: no such key\. Did you mean 'num_mel_bins'"),
        ({"kind": "log_mel", "dither": 1.0}, r"features\.dither: no such key"),
        ({1: 2}, r"features\.1: no such key"),
        ({"sampling_rate": "fast"}, r"features\.sampling_rate: expected int, got 'fast'"),
        ({"kind": "log_mel", "num_mel_bins": 80.5}, r"features\.num_mel_bins: expected int, got 80\.5"),
        ({"num_mel_bins": True}, r"features\.num_mel_bins: expected int, got True"),
        ({"window": ["povey"]}, r"features\.window: expected str"),
        ({"snip_edges": "no"}, r"features\.snip_edges: expected bool, got 'no'"),
        ({"frame_shift": math.nan}, r"config\.yaml: features: expected finite numbers"),
        ({"kind": "log_mel", "frame_length": math.inf}, r"config\.yaml: features: expected finite numbers"),
        ({"num_mel_bins": 0}, r"num_mel_bins is 0, expected at least 1"),
    ],
)
def test_what_is_no_feature_is_refused_by_its_key(config: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_features(config, "config.yaml: features")
