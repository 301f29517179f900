"""What a model keeps in a search, and where its config says what its attention is."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from toy import toy_memory

from s2s.errors import UserError
from s2s.models.attentions import attentions, cache_bytes, options_of, with_options
from s2s.models.build import build

DECODER = {
    "_target_": "s2s.models.transformer_decoder.TransformerDecoder",
    "vocab_size": 7,
    "memory_dim": 16,
    "model_dim": 16,
    "num_layers": 2,
    "num_heads": 4,
    "feed_forward_dim": 16,
}
LATENT = {"projection": "temporal_latent", "latent_dim": 12, "latent_stride": 3}


@pytest.mark.parametrize(
    ("attention", "token", "frame"),
    [
        ({}, 2 * 2 * 16 * 4, 2 * 2 * 16 * 4),
        ({"self_attention": {"kv_heads": 1}}, 2 * 2 * 4 * 4, 2 * 2 * 16 * 4),
        ({"cross_attention": {"projection": "weighted_grouped", "kv_heads": 2}}, 2 * 2 * 16 * 4, 2 * 2 * 8 * 4),
        ({"self_attention": {"projection": "keys_only"}}, 2 * 16 * 4, 2 * 2 * 16 * 4),
        ({"self_attention": LATENT}, 2 * 12 * 4 / 3, 2 * 2 * 16 * 4),
        ({"self_attention": [LATENT, {}]}, 12 * 4 + 2 * 16 * 4, 2 * 2 * 16 * 4),
        ({"cross_attention": {"reach": "strided", "stride": 2}}, 2 * 2 * 16 * 4, 2 * 16 * 4),
    ],
)
def test_cached_bytes_are_those_of_what_a_search_keeps(attention: dict[str, Any], token: float, frame: float) -> None:
    model: Any = build({**DECODER, **attention})
    assert cache_bytes(model) == pytest.approx((token, frame))
    assert cache_bytes(model, torch.bfloat16) == pytest.approx((token / 2, frame / 2))
    assert cache_bytes(Whole(model)) == cache_bytes(model)
    state = model.double().eval().start(toy_memory([60]), 1)
    assert sum(buffer.rows.numel() for layer in state.memory for buffer in layer) * 4 / 60 == frame
    slot = sum(tensor[0, :, 0].numel() for layer in state.past.layers for tensor in layer)
    assert slot * 4 / state.past.stride == token


class Whole(nn.Module):
    """A model with a decoder, and an encoder that keeps nothing."""

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.decoder = build(DECODER), decoder


def test_a_config_with_its_own_options_builds_the_same() -> None:
    config = {**DECODER, "self_attention": [{"kv_heads": 2}, {"kind": "relaxed", "gamma": 0.2}]}
    model = build(config)
    options = {name: options_of(each) for name, each in attentions(model).items()}
    same = with_options(model, config, options)
    assert same == {**config, "cross_attention": {}}
    assert [each.config for each in attentions(build(same)).values()] == [e.config for e in attentions(model).values()]


def test_only_the_place_that_is_named_changes() -> None:
    model = build(DECODER)
    names = [name for name in attentions(model) if "memory" in name]
    assert with_options(model, DECODER, {name: {"kv_heads": 1} for name in names}) == {
        **DECODER,
        "cross_attention": {"kv_heads": 1},
    }
    assert "cross_attention" not in DECODER


def test_a_model_without_attention_and_a_config_without_its_place_are_named() -> None:
    with pytest.raises(UserError, match=r"Linear: it has no attention heads"):
        attentions(nn.Linear(2, 2))
    with pytest.raises(UserError, match=r"decoder.layers.0.self_attention: it cannot be changed: Whole has no config"):
        with_options(Whole(build(DECODER)), {"decoder": {}}, {"decoder.layers.0.self_attention": {}})
