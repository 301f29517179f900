"""The folder a language model travels in: a bundle without features."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from s2s.errors import UserError
from s2s.files import replacing
from s2s.models.bundle import read_config, read_model, write_folder
from s2s.models.language_model import LanguageModel
from s2s.tokenizers.base import Tokenizer

KEY = "language_model"


@dataclass
class LanguageModelBundle:
    """A language model and its tokenizer; `model_config` is what `build` made the model from."""

    model: LanguageModel
    tokenizer: Tokenizer
    model_config: Mapping[str, Any]

    def write(self, folder: Path) -> None:
        """Write config.yaml, model.safetensors and tokenizer/ into a folder that does not exist yet."""
        write_folder(folder, {KEY: dict(self.model_config)}, self.model, self.tokenizer)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the bundle beside `folder`, then put it in its place."""
        with replacing(folder) as beside:
            self.write(beside)


def is_language_model(folder: str | os.PathLike[str]) -> bool:
    """Whether the bundle in `folder` is one of a language model; UserError where it is no bundle at all."""
    return KEY in read_config(folder, ())


def load_language_model(folder: str | os.PathLike[str], device: str | torch.device = "cpu") -> LanguageModelBundle:
    """The language model in `folder`, in evaluation mode on `device`; UserError names what is missing or wrong."""
    config = read_config(folder, (KEY,), "the folder of a language model")
    model, tokenizer = read_model(folder, config, KEY, LanguageModel)  # type: ignore[type-abstract]
    return LanguageModelBundle(model.eval().to(device), tokenizer, config[KEY])


def check_vocabulary(lm_tokenizer: Tokenizer, tokenizer: Tokenizer, where: str) -> None:
    """Raise UserError, naming `where`, unless the tokenizer of another model has the pieces of our own."""
    theirs, ours = (t.pieces(range(t.vocab_size)) for t in (lm_tokenizer, tokenizer))
    if theirs == ours:
        return
    first = next((i for i, (a, b) in enumerate(zip(theirs, ours, strict=False)) if a != b), min(len(theirs), len(ours)))
    a, b = (f"'{pieces[first]}'" if first < len(pieces) else "none" for pieces in (theirs, ours))
    raise UserError(
        f"{where}: it has another tokenizer than the model: piece {first} is {a}, the model's {b} "
        f"({len(theirs)} pieces, the model's {len(ours)}); use one that was trained with the model's tokenizer"
    )
