"""A bundle: the folder a trained model travels in, loadable offline and without pickle."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from s2s.audio.fbank import Fbank, FbankConfig
from s2s.errors import UserError, nearest
from s2s.files import replacing
from s2s.models.build import build
from s2s.models.hybrid import HybridModel
from s2s.tokenizers.base import Tokenizer
from s2s.tokenizers.load import load_tokenizer
from s2s.version import __version__

CONFIG, WEIGHTS, TOKENIZER, CARD = "config.yaml", "model.safetensors", "tokenizer", "README.md"


@dataclass
class Bundle:
    """A model with all it needs to read audio and write text; `model_config` is what `build` made the model from."""

    model: HybridModel
    tokenizer: Tokenizer
    fbank: Fbank
    model_config: Mapping[str, Any]

    def write(self, folder: Path) -> None:
        """Write config.yaml, model.safetensors and tokenizer/ into a folder that does not exist yet."""
        folder.mkdir(parents=True)
        config = {
            "s2s_version": __version__,
            "features": asdict(self.fbank.config),
            "model": dict(self.model_config),
        }
        (folder / CONFIG).write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in self.model.state_dict().items()}
        save_file(weights, folder / WEIGHTS)
        self.tokenizer.save(folder / TOKENIZER)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the bundle beside `folder`, then put it in its place."""
        with replacing(folder) as beside:
            self.write(beside)


def read_config(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """The config of a bundle; UserError where the folder holds none."""
    path = Path(folder) / CONFIG
    if not path.is_file():
        raise UserError(
            f"{folder}: not a bundle (no {CONFIG} in it); expected a folder that `s2s train`, `s2s average` or "
            "`s2s bundle` wrote"
        )
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not readable as YAML: {error}") from error
    if not isinstance(config, dict) or any(not isinstance(config.get(key), dict) for key in ("model", "features")):
        raise UserError(f"{path}: expected the keys `features` and `model`; the file is not a bundle's config")
    return config


def read_weights(folder: str | os.PathLike[str]) -> dict[str, torch.Tensor]:
    """The tensors of a bundle by name; UserError where the file is missing or broken."""
    path = Path(folder) / WEIGHTS
    if not path.is_file():
        raise UserError(f"{path}: no such file; the bundle is incomplete")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise UserError(f"{path}: not a whole safetensors file ({error}); copy or make the bundle again") from error


def load_bundle(folder: str | os.PathLike[str], device: str | torch.device = "cpu") -> Bundle:
    """The bundle in `folder`, its model in evaluation mode on `device`; UserError names what is missing or wrong."""
    config = read_config(folder)
    path = Path(folder) / CONFIG
    known = FbankConfig.__dataclass_fields__
    for key in config["features"]:
        if key not in known:
            raise UserError(f"{path}: features.{key}: no such key.{nearest(key, known)}")
    model = build(config["model"], f"{path}: model")
    if not isinstance(model, HybridModel):
        raise UserError(f"{path}: model._target_: expected {HybridModel.__module__}.HybridModel")
    weights = read_weights(folder)
    expected = model.state_dict()
    wrong = [k for k in expected if k not in weights or weights[k].shape != expected[k].shape]
    wrong += [k for k in weights if k not in expected]
    if wrong:
        raise UserError(f"{Path(folder) / WEIGHTS}: '{wrong[0]}' (of {len(wrong)} tensors) does not fit {path}")
    model.load_state_dict(weights)
    tokenizer = load_tokenizer(Path(folder) / TOKENIZER)
    if tokenizer.vocab_size != model.vocab_size:
        raise UserError(
            f"{folder}: the tokenizer has {tokenizer.vocab_size} pieces but the model {model.vocab_size} outputs; "
            "they come from different trainings"
        )
    try:
        fbank = Fbank(FbankConfig(**config["features"])).eval()  # in training it may dither
    except TypeError as error:
        raise UserError(f"{path}: features: a value is of the wrong kind ({error}); restore the file") from error
    return Bundle(model.eval().to(device), tokenizer, fbank, config["model"])
