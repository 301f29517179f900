from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from toy import toy_bundle

from s2s.audio.fbank import Fbank, FbankConfig
from s2s.errors import UserError
from s2s.models.build import build
from s2s.models.bundle import Bundle
from s2s.tokenizers.load import train_tokenizer
from s2s.training.begin import take_weights
from s2s.training.checkpoint import latest_training, load_training
from s2s.training.config import load_train_config
from s2s.training.loop import Trainer


def other(**decoder: object) -> Bundle:
    """The toy bundle with other weights, and another decoder."""
    bundle = toy_bundle()
    config = {**bundle.model_config, "decoder": {**bundle.model_config["decoder"], **decoder}}
    torch.manual_seed(1)
    return Bundle(build(config), bundle.tokenizer, bundle.features, config)  # type: ignore[arg-type]


def taken(bundle: Bundle, folder: Path) -> tuple[set[str], str]:
    said: list[str] = []
    names = take_weights(bundle, str(folder), said.append)
    [line] = said
    return names, line


def test_all_that_fits_is_taken_and_the_rest_is_named(tmp_path: Path) -> None:
    source = toy_bundle()
    source.save(tmp_path / "bundle")
    model = other(num_layers=2, feed_forward_dim=24)
    before = {name: tensor.clone() for name, tensor in model.model.state_dict().items()}
    names, line = taken(model, tmp_path / "bundle")
    after, theirs = model.model.state_dict(), source.model.state_dict()
    assert {name for name in theirs if theirs[name].shape != after[name].shape} == names_in(line, "of another shape")
    assert len(names_in(line, "of another shape")) == 3  # of a feed-forward layer
    for name, tensor in after.items():
        assert torch.equal(tensor, theirs[name] if name in names else before[name]), name
    assert names == set(theirs) - names_in(line, "of another shape")
    new = [name for name in after if name not in theirs]
    assert all(name.startswith("decoder.layers.1.") for name in new)
    assert f"{len(names)} of {len(after)} tensors taken; 3 of another shape" in line
    assert f"; {len(new)} new: {', '.join(new[:5])}, ..." in line
    assert line.startswith(f"training.init={tmp_path / 'bundle'}: ")


def names_in(line: str, what: str) -> set[str]:
    [part] = [part for part in line.split("; ") if what in part]
    return set(re.findall(r"(\S+) \([\d, ]+\) for", part))


def test_what_the_model_lacks_is_named_too(tmp_path: Path) -> None:
    other(num_layers=2).save(tmp_path / "bundle")
    names, line = taken(toy_bundle(), tmp_path / "bundle")
    assert names == set(toy_bundle().model.state_dict())
    assert re.search(r"; \d+ not in this model: decoder\.layers\.1\.\S+, ", line)
    assert " new: " not in line


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("tokenizer", r"another tokenizer than the model.*, or train with tokenizer=.*bundle/tokenizer"),
        ("features", r"it hears other features \(features\.frame_shift=0\.02, here 0\.01\)"),
        ("model", r"none of its tensors \(embedding\.weight, .*\) has the name and shape"),
        ("nothing", r"bundle: not a bundle"),
    ],
)
def test_a_bundle_that_does_not_fit_is_refused_before_anything_is_taken(
    tmp_path: Path, change: str, message: str
) -> None:
    source = toy_bundle()
    if change == "tokenizer":
        source.tokenizer = train_tokenizer("char", ["ane twa"])
        assert source.tokenizer.vocab_size == toy_bundle().tokenizer.vocab_size
    if change == "features":
        source.features = Fbank(FbankConfig(sampling_rate=8000, num_mel_bins=23, frame_shift=0.02))
    if change == "model":
        config = {
            "_target_": "s2s.models.language_model.TransformerLanguageModel",
            "vocab_size": source.tokenizer.vocab_size,
            "model_dim": 8,
            "num_layers": 1,
            "num_heads": 1,
        }
        source = Bundle(build(config), source.tokenizer, source.features, config)  # type: ignore[arg-type]
    if change != "nothing":
        source.save(tmp_path / "bundle")
    model = other()
    before = {name: tensor.clone() for name, tensor in model.model.state_dict().items()}
    with pytest.raises(UserError, match=message):
        take_weights(model, str(tmp_path / "bundle"), print)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.model.state_dict().items())


def test_noise_of_a_training_may_differ(tmp_path: Path) -> None:
    source = toy_bundle()
    source.features = Fbank(FbankConfig(sampling_rate=8000, num_mel_bins=23, dither=1.0))
    source.save(tmp_path / "bundle")
    assert taken(other(), tmp_path / "bundle")[0]


def train(folder: Path, overrides: list[str], epochs: int = 1) -> list[str]:
    said: list[str] = []
    options = [f"exp_dir={folder}", *overrides, f"training.max_epochs={epochs}"]
    Trainer(load_train_config("train", options), said.append).run()
    return said


def weights(folder: Path) -> dict[str, Tensor]:
    saved = latest_training(folder / "states")
    assert saved is not None
    return load_file(saved / "model.safetensors")


@pytest.fixture(scope="module")
def begun(tiny: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle trained on real digits."""
    folder = tmp_path_factory.mktemp("begun")
    train(folder, tiny)
    return folder / "checkpoints" / "epoch-0001"


def test_a_training_begins_with_a_bundle_and_leaves_what_is_frozen_as_it_was(
    begun: Path, tiny: list[str], tmp_path: Path
) -> None:
    options = [
        *tiny,
        "training.seed=7",
        f"training.init={begun}",
        "training.freeze=[encoder,decoder.layers.*.self_attention]",
    ]
    said = train(tmp_path / "frozen", options)
    before, after = load_file(begun / "model.safetensors"), weights(tmp_path / "frozen")
    assert f"{len(before)} of {len(before)} tensors taken" in said[0]
    assert re.search(r"training 0\.\d\d M parameters, 0\.\d\d M frozen, on 48 utterances", said[2])
    still = {name for name in before if torch.equal(before[name], after[name])}
    wanted = {n for n in before if n.startswith(("encoder.", "normalise.")) or ".self_attention." in n}
    assert wanted <= still
    assert "decoder.out.weight" not in still
    assert len(still - wanted) < 3  # a bias with no gradient, such as that of keys
    saved = latest_training(tmp_path / "frozen" / "states")
    assert saved is not None
    optimizer = load_training(saved)[1]["optimizer"]
    learned = {n for n in before if n not in wanted}
    assert set(optimizer["param_groups"][0]["names"]) == learned
    assert len(optimizer["state"]) == len(learned)
    first = json.loads((tmp_path / "frozen" / "metrics.jsonl").read_text().splitlines()[0])
    alone = json.loads((begun.parents[1] / "metrics.jsonl").read_text().splitlines()[0])
    assert first["train_loss"] < alone["train_loss"]

    # It goes on without the bundle, as a training that was never stopped, but not with other parameters frozen.
    gone = [option.replace(str(begun), "/nowhere") for option in options]
    train(tmp_path / "frozen", gone, epochs=2)
    train(tmp_path / "both", options, epochs=2)
    again, both = weights(tmp_path / "frozen"), weights(tmp_path / "both")
    assert all(torch.equal(tensor, both[name]) for name, tensor in again.items())
    with pytest.raises(UserError, match=r"other parameters were frozen than with training\.freeze=\['encoder'\]"):
        train(tmp_path / "frozen", [*gone, "training.freeze=[encoder]"], epochs=3)


def test_a_state_without_names_is_of_a_training_of_all_parameters(tiny: list[str], tmp_path: Path) -> None:
    train(tmp_path, tiny)
    saved = latest_training(tmp_path / "states")
    assert saved is not None
    state = torch.load(saved / "training_state.pt", weights_only=True)
    del state["optimizer"]["param_groups"][0]["names"]
    torch.save(state, saved / "training_state.pt")
    with pytest.raises(UserError, match="other parameters were frozen"):
        train(tmp_path, [*tiny, "training.freeze=[ctc]"], epochs=2)
    assert any("resuming" in line for line in train(tmp_path, tiny, epochs=2))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.init=/nowhere", "/nowhere: not a bundle"),
        ("training.freeze=[encodr]", "training.freeze: 'encodr' names no parameter. Did you mean 'encoder'?"),
        ("training.freez=[encoder]", "Did you mean 'training.freeze'?"),
    ],
)
def test_a_mistake_is_named_before_any_recording_is_read(
    tiny: list[str], tmp_path: Path, override: str, message: str
) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        train(tmp_path / "x", [*tiny, override, "data.train=[/not/read]"])
    assert not (tmp_path / "x").exists()
