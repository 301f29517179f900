"""A bundle: the folder a trained model travels in, loadable offline and without pickle."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, overload

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from s2s.audio.features import Features, build_features, features_config
from s2s.errors import UserError
from s2s.files import replacing
from s2s.models.build import build_empty
from s2s.models.hybrid import HybridModel
from s2s.tokenizers.base import Tokenizer
from s2s.tokenizers.load import load_tokenizer
from s2s.version import __version__

CONFIG, WEIGHTS, TOKENIZER, CARD = "config.yaml", "model.safetensors", "tokenizer", "README.md"
BUNDLE = "a folder that `s2s train`, `s2s average`, `s2s bundle` or `s2s import` wrote"

Model = TypeVar("Model", bound=nn.Module)


@dataclass
class Bundle(Generic[Model]):
    """A model with all it needs to read audio and write text; `model_config` is what `build` made the model from."""

    model: Model
    tokenizer: Tokenizer
    features: Features
    model_config: Mapping[str, Any]

    def write(self, folder: Path) -> None:
        """Write config.yaml, model.safetensors and tokenizer/ into a folder that does not exist yet."""
        config = {"features": features_config(self.features), "model": dict(self.model_config)}
        write_folder(folder, config, self.model, self.tokenizer)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the bundle beside `folder`, then put it in its place."""
        with replacing(folder) as beside:
            self.write(beside)


def write_folder(folder: Path, config: Mapping[str, Any], model: nn.Module, tokenizer: Tokenizer) -> None:
    """Write config.yaml, model.safetensors and tokenizer/ into a folder that does not exist yet."""
    folder.mkdir(parents=True)
    text = yaml.safe_dump({"s2s_version": __version__, **config}, sort_keys=False)
    (folder / CONFIG).write_text(text, encoding="utf-8")
    weights: dict[str, torch.Tensor] = {}
    places: set[int] = set()
    for name, tensor in model.state_dict().items():
        own = tensor.detach().cpu().contiguous()
        weights[name] = own.clone() if own.data_ptr() in places else own  # shared: the file has each by its own name
        places.add(own.data_ptr())
    save_file(weights, folder / WEIGHTS)
    tokenizer.save(folder / TOKENIZER)


def read_config(
    folder: str | os.PathLike[str], keys: tuple[str, ...] = ("features", "model"), expected: str = BUNDLE
) -> dict[str, Any]:
    """The config of a bundle, a mapping under each of `keys`; UserError where the folder is not what was `expected`."""
    path = Path(folder) / CONFIG
    if not path.is_file():
        raise UserError(f"{folder}: not a bundle (no {CONFIG} in it); expected {expected}")
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not readable as YAML: {error}") from error
    if not isinstance(config, dict) or any(not isinstance(config.get(key), dict) for key in keys):
        named = " and ".join(f"`{key}`" for key in keys)
        raise UserError(f"{path}: expected the key{'s' if len(keys) > 1 else ''} {named}; give {expected}")
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


def read_model(
    folder: str | os.PathLike[str], config: Mapping[str, Any], key: str, kind: type[Model]
) -> tuple[Model, Tokenizer]:
    """The model that `config[key]` describes, with the weights in `folder`, and the tokenizer there.

    Raises UserError where the model is not a `kind`, or one of them is missing, broken, or does not fit the others.
    """
    path = Path(folder) / CONFIG
    model = build_empty(config[key], f"{path}: {key}")
    if not isinstance(model, kind):
        raise UserError(f"{path}: {key}._target_: expected {kind.__module__}.{kind.__name__}")
    weights = read_weights(folder)
    expected = model.state_dict()
    wrong = [k for k in expected if k not in weights or weights[k].shape != expected[k].shape]
    wrong += [k for k in weights if k not in expected]
    if wrong:
        raise UserError(f"{Path(folder) / WEIGHTS}: '{wrong[0]}' (of {len(wrong)} tensors) does not fit {path}")
    # Stored in half the bytes or not, a model begins in float32.
    own = {name: weights[name].to(tensor.dtype) for name, tensor in expected.items()}
    model.load_state_dict(own, assign=True)
    tokenizer = load_tokenizer(Path(folder) / TOKENIZER)
    if tokenizer.vocab_size != model.vocab_size:
        raise UserError(
            f"{folder}: the tokenizer has {tokenizer.vocab_size} pieces but the model {model.vocab_size} outputs; "
            "they come from different trainings"
        )
    return model, tokenizer


@overload
def load_bundle(folder: str | os.PathLike[str], device: str | torch.device = "cpu") -> Bundle[HybridModel]: ...
@overload
def load_bundle(folder: str | os.PathLike[str], device: str | torch.device, kind: type[Model]) -> Bundle[Model]: ...
def load_bundle(
    folder: str | os.PathLike[str], device: str | torch.device = "cpu", kind: type[nn.Module] = HybridModel
) -> Bundle[Any]:
    """The bundle in `folder`, its model in evaluation mode on `device`; UserError names what is missing or wrong.

    `kind` is the class that its model must be of.
    """
    config = read_config(folder)
    model, tokenizer = read_model(folder, config, "model", kind)
    features = build_features(config["features"], f"{Path(folder) / CONFIG}: features")
    return Bundle(model.eval().to(device), tokenizer, features, config["model"])
