from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file, save_file

from s2s.errors import UserError
from s2s.models.build import build
from s2s.models.bundle import load_bundle
from s2s.models.language_model import TransformerLanguageModel
from s2s.models.lm_bundle import LanguageModelBundle, check_vocabulary, load_language_model
from s2s.tokenizers.load import train_tokenizer


def bundle() -> LanguageModelBundle:
    tokenizer = train_tokenizer("char", ["one two"])
    config = {
        "_target_": "s2s.models.language_model.TransformerLanguageModel",
        "vocab_size": tokenizer.vocab_size,
        "model_dim": 8,
        "num_layers": 1,
        "num_heads": 2,
        "feed_forward_dim": 8,
    }
    model = build(config)
    assert isinstance(model, TransformerLanguageModel)
    return LanguageModelBundle(model, tokenizer, config)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    bundle().save(tmp_path / "lm")
    return tmp_path / "lm"


def test_a_language_model_read_back_is_the_same(tmp_path: Path) -> None:
    ours = bundle()
    ours.save(tmp_path / "lm")
    ours.save(tmp_path / "lm")  # over itself
    found = load_language_model(tmp_path / "lm")
    assert not found.model.training
    assert found.tokenizer.encode("two one") == ours.tokenizer.encode("two one")
    assert found.model_config == ours.model_config
    weights = found.model.state_dict()
    assert list(weights) == list(ours.model.state_dict())
    assert all(weights[name].equal(tensor) for name, tensor in ours.model.state_dict().items())
    assert sorted(p.name for p in (tmp_path / "lm").iterdir()) == ["config.yaml", "model.safetensors", "tokenizer"]


def broken(saved: Path, how: str) -> None:
    path, weights = saved / "config.yaml", saved / "model.safetensors"
    config = yaml.safe_load(path.read_text())
    if how == "no config":
        path.unlink()
    elif how == "no language model":
        path.write_text(yaml.safe_dump({"model": config["language_model"], "features": {}}))
    elif how == "no weights":
        weights.unlink()
    elif how == "other weights":
        save_file({name: tensor for name, tensor in load_file(weights).items() if name != "out.bias"}, weights)
    elif how == "other tokenizer":
        train_tokenizer("char", ["abcdefghijkl"]).save(saved / "tokenizer")
    elif how == "wrong key":
        config["language_model"]["layers"] = 2
        path.write_text(yaml.safe_dump(config))
    elif how == "other model":
        config["language_model"] = {"_target_": "s2s.models.ctc.CTC", "memory_dim": 2, "vocab_size": 3}
        path.write_text(yaml.safe_dump(config))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("no config", r"lm: not a bundle \(no config\.yaml in it\); expected the folder of a language model"),
        ("no language model", r"config\.yaml: expected the key `language_model`"),
        ("no weights", r"model\.safetensors: no such file"),
        ("other weights", r"'out\.bias' .* does not fit"),
        ("other tokenizer", r"the tokenizer has 16 pieces but the model"),
        ("wrong key", r"language_model\.layers: TransformerLanguageModel has no such key\. Did you mean 'num_layers'"),
        ("other model", r"language_model\._target_: expected s2s\.models\.language_model\.LanguageModel"),
    ],
)
def test_a_broken_folder_is_refused_with_what_is_wrong(saved: Path, how: str, message: str) -> None:
    broken(saved, how)
    with pytest.raises(UserError, match=message):
        load_language_model(saved)


def test_a_language_model_is_not_taken_for_a_bundle(saved: Path) -> None:
    with pytest.raises(UserError, match=r"expected the keys `features` and `model`; give a folder that `s2s train`"):
        load_bundle(saved)


def test_tokenizers_of_one_vocabulary_pass() -> None:
    tokenizer = train_tokenizer("char", ["one two"])
    check_vocabulary(train_tokenizer("char", ["two one"]), tokenizer, "lm=exp/lm")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ond", r"piece 4 is 'd', the model's 'o' \(7 pieces, the model's 9\)"),
        ("one txo", r"piece 8 is 'x', the model's 'w' \(9 pieces, the model's 9\)"),
        ("one two", r"piece 9 is '▁', the model's none \(10 pieces, the model's 9\)"),
    ],
)
def test_another_vocabulary_is_refused_with_the_first_piece_that_differs(text: str, message: str) -> None:
    ours = train_tokenizer("char", ["one two"], vocab_size=9)
    theirs = train_tokenizer("char", [text], vocab_size=9 if "x" in text else None)
    with pytest.raises(UserError, match=rf"^lm=exp/lm: .*{message}; use one that was trained with"):
        check_vocabulary(theirs, ours, "lm=exp/lm")
