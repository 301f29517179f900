from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from tiny_seq2seq import toy_translation_bundle
from toy import toy_bundle

from s2s.errors import UserError
from s2s.models.bundle import load_bundle
from s2s.models.translation_bundle import is_translation_bundle, load_translation_bundle
from s2s.tokenizers.load import train_tokenizer


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    toy_translation_bundle(tmp_path / "theirs", beam_size=3, length_power=0.5).save(tmp_path / "mt")
    return tmp_path / "mt"


def test_a_bundle_read_back_is_the_same(tmp_path: Path) -> None:
    ours = toy_translation_bundle(tmp_path / "theirs", beam_size=3, length_power=0.5)
    ours.save(tmp_path / "mt")
    ours.save(tmp_path / "mt")  # over itself
    found = load_translation_bundle(tmp_path / "mt")
    assert not found.model.training
    assert (found.model_config, found.decoding) == (ours.model_config, ours.decoding)
    assert found.tokenizer.encode_source("the sea") == ours.tokenizer.encode_source("the sea")
    weights = found.model.state_dict()
    assert all(weights[name].equal(tensor) for name, tensor in ours.model.state_dict().items())
    assert sorted(p.name for p in (tmp_path / "mt").iterdir()) == ["config.yaml", "model.safetensors", "tokenizer"]


def test_it_is_told_from_other_bundles(saved: Path, tmp_path: Path) -> None:
    toy_bundle().save(tmp_path / "speech")
    assert is_translation_bundle(saved)
    assert not is_translation_bundle(tmp_path / "speech")
    with pytest.raises(UserError, match=r"config\.yaml: expected the key `translation_model`"):
        load_translation_bundle(tmp_path / "speech")
    with pytest.raises(UserError, match=r"expected the keys `features` and `model`"):
        load_bundle(saved)
    with pytest.raises(UserError, match=r"not a bundle"):
        is_translation_bundle(tmp_path)


def broken(saved: Path, how: str) -> None:
    path, weights = saved / "config.yaml", saved / "model.safetensors"
    config: dict[str, Any] = yaml.safe_load(path.read_text())
    if how == "no weights":
        weights.unlink()
    elif how == "other weights":
        save_file({name: tensor for name, tensor in load_file(weights).items() if "norm" not in name}, weights)
    elif how == "other tokenizer":
        train_tokenizer("char", ["abcdefghijkl"]).save(saved / "tokenizer")
        config["translation_model"]["vocab_size"] = config["translation_model"]["decoder"]["vocab_size"] = 16
        tensors = load_file(weights)
        for name in ("decoder.embedding.weight", "decoder.out_bias"):
            tensors[name] = tensors[name][:16].clone()
        save_file(tensors, weights)
    elif how == "small encoder":
        config["translation_model"]["encoder"]["front"]["vocab_size"] = 9
        tensors = load_file(weights)
        tensors["encoder.front.embedding.weight"] = tensors["encoder.front.embedding.weight"][:9].clone()
        save_file(tensors, weights)
    elif how == "no text":
        front = {"_target_": "s2s.nn.subsampling.ConvolutionFront", "input_dim": 8, "model_dim": 16}
        config["translation_model"]["encoder"]["front"] = front
        tensors = load_file(weights)
        del tensors["encoder.front.embedding.weight"]
        for i, size in enumerate((8, 16)):
            tensors[f"encoder.front.convolutions.{i}.weight"] = torch.zeros(16, size, 3)
            tensors[f"encoder.front.convolutions.{i}.bias"] = torch.zeros(16)
        save_file(tensors, weights)
    elif how == "other model":
        config["translation_model"] = {"_target_": "s2s.models.ctc.CTC", "memory_dim": 2, "vocab_size": 3}
    elif how == "unknown setting":
        config["decoding"] = {"lm": "/etc/passwd"}
    elif how == "text for a number":
        config["decoding"] = {"beam_size": "5"}
    elif how == "fraction for a count":
        config["decoding"] = {"beam_size": 0.5}
    elif how == "list":
        config["decoding"] = [1]
    path.write_text(yaml.safe_dump(config))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("no weights", r"model\.safetensors: no such file"),
        ("other weights", r"norm\S+' .* does not fit"),
        ("other tokenizer", r"mt: a char tokenizer, expected one of a translation model"),
        ("small encoder", r"mt: the tokenizer has \d+ pieces of the source, the encoder takes 9"),
        ("no text", r"translation_model\.encoder\.front: expected s2s\.nn\.embedding\.TokenFront"),
        ("other model", r"_target_: expected s2s\.models\.encoder_decoder\.EncoderDecoder"),
        ("unknown setting", r"config\.yaml: decoding\.lm: no such key; expected beam_size, length_power"),
        ("text for a number", r"decoding\.beam_size: expected int, got '5'"),
        ("fraction for a count", r"decoding\.beam_size: expected int, got 0\.5"),
        ("list", r"decoding: expected some of the keys"),
    ],
)
def test_a_broken_bundle_is_refused_with_what_is_wrong(saved: Path, how: str, message: str) -> None:
    broken(saved, how)
    with pytest.raises(UserError, match=message):
        load_translation_bundle(saved)
