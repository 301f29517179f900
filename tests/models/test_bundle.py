from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from toy import toy_bundle

from s2s.errors import UserError
from s2s.models.bundle import load_bundle
from s2s.models.card import model_card
from s2s.tokenizers.load import train_tokenizer


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    toy_bundle().save(tmp_path / "model")
    return tmp_path / "model"


def test_a_bundle_read_back_is_the_same(saved: Path) -> None:
    ours, found = toy_bundle(), load_bundle(saved)
    assert not found.model.training
    assert found.features.config == ours.features.config
    assert found.tokenizer.encode("two one") == ours.tokenizer.encode("two one")
    assert {k: v.tolist() for k, v in found.model.state_dict().items()} == {
        k: v.tolist() for k, v in ours.model.state_dict().items()
    }


def test_a_bundle_moved_elsewhere_still_loads(saved: Path, tmp_path: Path) -> None:
    saved.rename(tmp_path / "elsewhere")
    load_bundle(tmp_path / "elsewhere")


def test_saving_again_replaces_the_whole_folder(saved: Path) -> None:
    (saved / "stale").touch()
    toy_bundle().save(saved)
    assert not (saved / "stale").exists()
    assert [p.name for p in saved.parent.iterdir()] == ["model"]


def test_nothing_in_a_bundle_is_a_pickle(saved: Path) -> None:
    for file in saved.rglob("*"):
        if file.is_file():
            with pytest.raises(Exception):  # noqa: B017, PT011 - pickle raises many kinds for what is no pickle
                pickle.loads(file.read_bytes())


def broken(saved: Path, how: str) -> None:
    config = yaml.safe_load((saved / "config.yaml").read_text())
    weights = saved / "model.safetensors"
    if how == "no config":
        (saved / "config.yaml").unlink()
    elif how == "no yaml":
        (saved / "config.yaml").write_text("a: [1")
    elif how == "no model":
        (saved / "config.yaml").write_text("features: {}")
    elif how == "no weights":
        weights.unlink()
    elif how == "cut weights":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif how == "other weights":
        tensors = load_file(weights)
        tensors["ctc.out.bias"] = torch.zeros(3)
        save_file(tensors, weights)
    elif how == "no tokenizer":
        (saved / "tokenizer" / "tokenizer.json").unlink()
    elif how == "other tokenizer":
        train_tokenizer("char", ["abcdefghijkl"]).save(saved / "tokenizer")
    elif how == "unknown feature":
        config["features"]["num_mels"] = 23
        (saved / "config.yaml").write_text(yaml.safe_dump(config))
    elif how == "no features":
        (saved / "config.yaml").write_text(yaml.safe_dump({**config, "features": 3}))
    elif how == "wrong feature":
        config["features"]["sampling_rate"] = "fast"
        (saved / "config.yaml").write_text(yaml.safe_dump(config))
    elif how == "outside class":
        config["model"]["encoder"]["_target_"] = "subprocess.Popen"
        (saved / "config.yaml").write_text(yaml.safe_dump(config))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("no config", r"not a bundle \(no config.yaml"),
        ("no yaml", r"config\.yaml: not readable as YAML"),
        ("no model", r"config\.yaml: expected the keys `features` and `model`"),
        ("no weights", r"model\.safetensors: no such file"),
        ("cut weights", r"model\.safetensors: not a whole safetensors file"),
        ("other weights", r"'ctc\.out\.bias' .* does not fit"),
        ("no tokenizer", r"tokenizer"),
        ("other tokenizer", r"the tokenizer has 16 pieces but the model"),
        ("unknown feature", r"features\.num_mels: no such key\. Did you mean 'num_mel_bins'"),
        ("no features", r"config\.yaml: expected the keys `features` and `model`"),
        ("wrong feature", r"config\.yaml: features\.sampling_rate: expected int, got 'fast'"),
        ("outside class", r"model\.encoder\._target_: 'subprocess\.Popen' is not inside s2s"),
    ],
)
def test_a_broken_bundle_is_refused_with_what_is_wrong(saved: Path, how: str, message: str) -> None:
    broken(saved, how)
    with pytest.raises(UserError, match=message):
        load_bundle(saved)


def test_the_card_tells_how_to_use_the_model_and_what_it_scored() -> None:
    card = model_card(toy_bundle(), "digits", "Digits", "FSDD, CC BY-SA 4.0", {"test": "%WER 1.00 [ 1 / 100 ]"})
    assert "s2s transcribe --model digits" in card
    assert "%WER 1.00 [ 1 / 100 ]" in card
    assert "FSDD, CC BY-SA 4.0" in card
