"""What an attention's config refuses, and what it says."""

from __future__ import annotations

from typing import Any

import pytest

from s2s.errors import UserError
from s2s.models.build import build
from s2s.nn.attention.config import AttentionConfig, changed, of_decoder_layer, of_layer

FRONT = {"_target_": "s2s.nn.subsampling.ConvolutionSubsampling", "input_dim": 8, "model_dim": 16, "channels": 4}
ENCODER = {"_target_": "s2s.models.conformer.ConformerEncoder", "front": FRONT, "model_dim": 16, "num_heads": 2}
ENCODER |= {"num_layers": 3, "feed_forward_dim": 16}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "relxed"}, r"^kind=relxed: expected one of softmax, relaxed, .*Did you mean 'relaxed'"),
        ({"projection": "latent"}, r"^projection=latent: expected one of multi_head, .*temporal_latent"),
        ({"reach": "chunk"}, r"^reach=chunk: expected one of .*Did you mean 'chunked'"),
        ({"gamma": 0.2}, r"^gamma=0\.2: has no effect with kind=softmax, only with relaxed; leave it out"),
        ({"kind": "relaxed", "gamma": 1.2}, r"^gamma=1\.2: expected a share"),
        ({"kind": "relaxed", "gamma": -0.1}, r"^gamma=-0\.1: expected at least 0"),
        ({"left": 5}, r"^left=5: has no effect with reach=full, only with limited"),
        ({"above": 5}, r"^above=5: has no effect with reach=full, only with limited or chunked"),
        ({"kv_heads": 0}, r"^kv_heads=0: expected at least 1"),
        ({"shared_heads": 1}, r"^shared_heads=1: has no effect without active_heads"),
    ],
)
def test_a_value_that_is_wrong_or_without_effect_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        AttentionConfig(**options)


@pytest.mark.parametrize(
    ("attention", "message"),
    [
        ({"kind": "relxed"}, r"^model\.attention\.kind=relxed: expected one of softmax, relaxed"),
        ({"knid": "relaxed"}, r"^model\.attention\.knid: AttentionConfig has no such key\. Did you mean 'kind'"),
        ({"kind": "relaxed", "gamma": "high"}, r"^model\.attention\.gamma: expected float, got 'high'"),
        ([{}, {"reach": "ful"}], r"^model\.attention\.1\.reach=ful: .*Did you mean 'full'"),
        ([], r"^attention: an empty list"),
        ("relaxed", r"^model\.attention: expected a mapping of keys such as kind, got 'relaxed'"),
    ],
)
def test_an_error_names_the_key_as_it_is_in_the_config(attention: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build({**ENCODER, "attention": attention})


def test_layers_take_turns() -> None:
    model = build({**ENCODER, "attention": [{"reach": "limited", "left": 4, "right": 4}, {}]})
    assert [block.attention.config.reach for block in model.blocks] == ["limited", "full", "limited"]  # type: ignore[union-attr]
    assert of_layer(None, 3) == AttentionConfig()


def test_a_decoder_does_not_know_how_long_its_text_will_be() -> None:
    with pytest.raises(UserError, match=r"above=9: is for encoders"):
        of_decoder_layer(AttentionConfig(reach="limited", above=9), 0)


def test_the_keys_that_were_given_are_known() -> None:
    assert changed(AttentionConfig()) == []
    assert changed(AttentionConfig(kind="relaxed", gamma=0.3)) == ["kind", "gamma"]
