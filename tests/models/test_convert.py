"""Trained multi-head attention into fewer keys and values: the mean of heads, or the same numbers of keys alone."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from toy import toy_bundle, toy_memory, toy_source

from s2s.errors import UserError
from s2s.models.attentions import attentions, cache_bytes
from s2s.models.build import build
from s2s.models.bundle import load_bundle
from s2s.models.convert import KEYS_ONLY, convert, convert_bundle
from s2s.models.lm_bundle import LanguageModelBundle, load_language_model
from s2s.tokenizers.load import train_tokenizer

CLOSE = {"rtol": 1e-9, "atol": 1e-9}
SMALL = {"model_dim": 16, "num_layers": 2, "num_heads": 4, "feed_forward_dim": 16}
MODEL: dict[str, Any] = {
    "_target_": "s2s.models.hybrid.HybridModel",
    "vocab_size": 7,
    "normalise": {"_target_": "s2s.audio.normalise.GlobalNormalise", "num_bins": 8},
    "encoder": {
        "_target_": "s2s.models.transformer_encoder.TransformerEncoder",
        "front": {"_target_": "s2s.nn.subsampling.ConvolutionFront", "input_dim": 8, "model_dim": 16},
        **SMALL,
    },
    "decoder": {
        "_target_": "s2s.models.transformer_decoder.TransformerDecoder",
        "vocab_size": 7,
        "memory_dim": 16,
        **SMALL,
    },
}
TOKENS = torch.tensor([[2, 4, 5, 6], [2, 6, 6, 3]])


def model_of(config: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    model = build(config)
    for parameter in model.parameters():
        if parameter.dim() == 1:
            torch.nn.init.normal_(parameter)
    return model.double().eval()


def with_attention(part: str, **options: Any) -> dict[str, Any]:
    config = copy.deepcopy(MODEL)
    config["encoder" if part == "encoder" else "decoder"].update(options)
    return config


def outputs(model: Any) -> torch.Tensor:
    found: torch.Tensor = model.decoder(model.encode(*toy_source([40, 33])), TOKENS)
    return found


@pytest.mark.parametrize("parts", [["encoder"], ["self"], ["cross"], None, ["encoder", "self", "cross"]])
@pytest.mark.parametrize(
    "attention",
    [
        {},
        {"kind": "relaxed", "gamma": 0.3, "relax_always": True},
        {"kind": "entmax15"},
        {"kind": "entmax"},
        {"active_heads": 2},
        {"kv_heads": 4},
    ],
)
def test_keys_alone_give_the_same_numbers(attention: dict[str, Any], parts: list[str] | None) -> None:
    config = with_attention("self", self_attention=attention, cross_attention=[attention, {}])
    config["encoder"]["attention"] = attention
    model = model_of(config)
    found = convert(model, config, KEYS_ONLY, parts)
    assert found.parts == (["self", "cross"] if parts is None else parts)
    torch.testing.assert_close(outputs(found.model), outputs(model), **CLOSE)
    changed = [name for name, each in attentions(found.model).items() if each.config.projection == "keys_only"]
    assert len(changed) == 2 * len(found.parts)
    again = model_of(found.config)
    again.load_state_dict(found.model.state_dict())
    assert torch.equal(outputs(again), outputs(found.model))


@pytest.mark.parametrize("positions", ["relative", "alibi", "none", "sinusoidal"])
def test_keys_alone_give_the_same_numbers_with_positions_of_any_kind(positions: str) -> None:
    config = with_attention("self", positions=positions)
    config["encoder"]["positions"] = positions
    model = model_of(config)
    for each in attentions(model).values():
        for parameter in () if each.scheme is None else each.scheme.parameters():
            torch.nn.init.normal_(parameter)
    found = convert(model, config, KEYS_ONLY, ["encoder", "self", "cross"])
    torch.testing.assert_close(outputs(found.model), outputs(model), **CLOSE)


def test_keys_alone_give_the_same_search_a_token_at_a_time() -> None:
    model = model_of(MODEL)
    found, memory = convert(model, MODEL, KEYS_ONLY).model, toy_memory([5, 3])
    states = [each.decoder.start(memory, 2) for each in (model, found)]  # type: ignore[union-attr]
    for token in ([2, 2, 2, 2], [4, 5, 6, 4], [5, -1, 5, 5]):
        (a, states[0]), (b, states[1]) = (
            each.decoder.step(torch.tensor(token), state)  # type: ignore[union-attr]
            for each, state in zip((model, found), states, strict=True)
        )
        torch.testing.assert_close(a, b, **CLOSE)


def test_keys_alone_are_half_of_what_is_cached() -> None:
    model = model_of(MODEL)
    found = convert(model, MODEL, KEYS_ONLY)
    before, after = cache_bytes(model), cache_bytes(found.model)
    assert (2 * after.token, 2 * after.frame) == before


def test_a_head_of_which_keys_are_nearly_alike_loses_no_digits() -> None:
    model = model_of(MODEL)
    for each in attentions(model).values():
        key = each.heads.key.weight
        with torch.no_grad():
            key[1] = key[0] + 1e-7 * key[1]
            key[4:8] *= 1e-4
    found = convert(model, MODEL, KEYS_ONLY)
    assert 1.0 < found.condition < 1e4
    torch.testing.assert_close(outputs(found.model.float().double()), outputs(model), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("difference", [0.0, 1e-9])
def test_keys_that_do_not_tell_values_are_refused(difference: float) -> None:
    model = model_of(MODEL)
    with torch.no_grad():  # two heads with the same keys
        key = model.decoder.layers[1].self_attention.heads.key.weight
        key[4:8] = key[:4] + difference * torch.randn(4, 16).double()
    with pytest.raises(UserError, match=r"model: decoder.layers.1.self_attention: .* no inverse"):
        convert(model, MODEL, KEYS_ONLY)


@pytest.mark.parametrize("knocking", [False, True])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_a_group_of_heads_has_the_mean_of_their_keys_and_values(kv_heads: int, knocking: bool) -> None:
    config = with_attention("self", self_attention={"knocking": knocking}, cross_attention={"knocking": knocking})
    model = model_of(config)
    for each in attentions(model).values():
        for parameter in each.heads.parameters():
            torch.nn.init.normal_(parameter)
    found = convert(model, config, {"kv_heads": kv_heads})
    assert found.condition == 1.0
    x, size = torch.randn(2, 5, 16).double(), 4 // kv_heads
    for name, each in attentions(model).items():
        new = attentions(found.model)[name]
        kept = new.project(x)
        if name.startswith("encoder"):
            torch.testing.assert_close(kept, each.project(x))
            continue
        assert [tensor.shape for tensor in kept] == [(2, kv_heads, 5, 4)] * 2
        for tensor, of_heads in zip(kept, each.project(x), strict=True):
            for group in range(kv_heads):
                expected = sum(of_heads[:, group * size + i] for i in range(size)) / size
                torch.testing.assert_close(tensor[:, group], expected)
        assert torch.equal(new.heads.queries(x), each.heads.queries(x))
    if kv_heads == 4:
        torch.testing.assert_close(outputs(found.model), outputs(model), **CLOSE)
    else:
        assert cache_bytes(found.model).token == cache_bytes(model).token / size


def test_a_conformer_and_a_second_decoder_are_converted_too() -> None:
    config = copy.deepcopy(MODEL)
    front = {"_target_": "s2s.nn.subsampling.ConvolutionSubsampling", "input_dim": 8, "model_dim": 16, "channels": 4}
    config["encoder"] = {"_target_": "s2s.models.conformer.ConformerEncoder", "front": front, "kernel_size": 3, **SMALL}
    config["reverse_decoder"] = config["decoder"]
    model = model_of(config)
    found: Any = convert(model, config, KEYS_ONLY, ["encoder", "self"]).model
    torch.testing.assert_close(outputs(found), outputs(model), **CLOSE)
    memory = toy_memory([5, 3])
    torch.testing.assert_close(found.reverse_decoder(memory, TOKENS), model.reverse_decoder(memory, TOKENS), **CLOSE)
    kinds = {name: each.config.projection for name, each in attentions(found).items()}
    assert kinds["encoder.blocks.0.attention"] == kinds["reverse_decoder.layers.1.self_attention"] == "keys_only"
    assert kinds["decoder.layers.0.memory_attention"] == "multi_head"


@pytest.mark.parametrize(
    ("config", "change", "parts", "message"),
    [
        (MODEL, {"kv_heads": 3}, None, r"kv_heads=3: num_heads=4 is no multiple"),
        (MODEL, KEYS_ONLY, ["crss"], r"part 'crss': expected encoder, self, cross.*'cross'"),
        (MODEL["decoder"], KEYS_ONLY, ["encoder"], r"model: has no attention of the part encoder"),
        (
            with_attention("self", self_attention={"kv_heads": 2}),
            {"kv_heads": 1},
            None,
            r"model: decoder.layers.0.self_attention is no multi-head attention any more \(2 heads of keys for 4\)",
        ),
        (
            with_attention("cross", cross_attention=[{}, KEYS_ONLY]),
            {"kv_heads": 1},
            ["cross"],
            r"decoder.layers.1.memory_attention is no multi-head attention any more \(KeysOnly\)",
        ),
        (with_attention("self", positions="rotary"), KEYS_ONLY, None, r"positions=rotary: .*keys_only"),
        (with_attention("self", self_attention={"kind": "rectified"}), KEYS_ONLY, None, r"kind=rectified"),
        (
            with_attention("self", self_attention={"knocking": True}),
            KEYS_ONLY,
            None,
            r"model.decoder.self_attention.knocking=True: has no effect with projection=keys_only",
        ),
        (
            with_attention("self", cross_attention={"reach": "strided", "stride": 2}),
            {"kv_heads": 2},
            None,
            r"reach=strided",
        ),
    ],
)
def test_what_cannot_be_converted_is_named(
    config: dict[str, Any], change: dict[str, Any], parts: list[str] | None, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        convert(model_of(config), config, change, parts)


@pytest.mark.parametrize("change", [KEYS_ONLY, {"kv_heads": 1}])
def test_a_converted_bundle_loads(tmp_path: Path, change: dict[str, Any]) -> None:
    bundle = toy_bundle()
    bundle.save(tmp_path / "model")
    _, converted = convert_bundle(tmp_path / "model", tmp_path / "converted", change)
    found = load_bundle(tmp_path / "converted")
    source = torch.randn(2, 60, 23, generator=torch.Generator().manual_seed(0)), torch.tensor([60, 41])
    expected, tokens = bundle.model.encode(*source), torch.tensor([[2, 4, 5], [2, 5, 5]])
    memory = found.model.encode(*source)
    torch.testing.assert_close(memory.states, expected.states)
    log_probs = found.model.decoder(memory, tokens)
    assert torch.equal(log_probs, converted.model.decoder(memory, tokens))  # type: ignore[operator]
    if change == KEYS_ONLY:
        torch.testing.assert_close(log_probs, bundle.model.decoder(expected, tokens), rtol=1e-4, atol=1e-4)
    assert found.tokenizer.encode("two one") == bundle.tokenizer.encode("two one")
    assert found.features.config == bundle.features.config
    assert found.model_config["decoder"]["cross_attention"] == change
    assert toy_bundle().model_config == bundle.model_config


def test_a_language_model_is_converted_too(tmp_path: Path) -> None:
    tokenizer = train_tokenizer("char", ["one two"])
    config = {
        "_target_": "s2s.models.language_model.TransformerLanguageModel",
        "vocab_size": tokenizer.vocab_size,
        **SMALL,
    }
    model: Any = model_of(config).float()
    LanguageModelBundle(model, tokenizer, config).save(tmp_path / "lm")
    convert_bundle(tmp_path / "lm", tmp_path / "slim", KEYS_ONLY)
    found = load_language_model(tmp_path / "slim").model
    torch.testing.assert_close(found.log_probs(TOKENS), model.log_probs(TOKENS), rtol=1e-4, atol=1e-4)
    assert cache_bytes(found) == (cache_bytes(model).token / 2, 0.0)


def test_nothing_is_written_where_conversion_fails(tmp_path: Path) -> None:
    toy_bundle().save(tmp_path / "model")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.yaml").write_text(yaml.safe_dump({"features": {}}))
    for folder, message in (("model", r"kv_heads=5"), ("other", r"config.yaml: expected a key `model` or")):
        with pytest.raises(UserError, match=message):
            convert_bundle(tmp_path / folder, tmp_path / "converted", {"kv_heads": 5})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "other"]
