"""The folder a translation model travels in: a bundle without features."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch

from s2s.errors import UserError, nearest
from s2s.files import replacing
from s2s.models.bundle import CONFIG, read_config, read_model, write_folder
from s2s.models.encoder_decoder import EncoderDecoder
from s2s.tokenizers.base import Tokenizer

KEY, DECODING = "translation_model", "decoding"
SETTINGS: dict[str, type] = {
    "beam_size": int,
    "length_power": float,
    "no_repeat_ngram": int,
    "min_length": int,
    "max_length": int,
}
"""What a model may say about how to search, keys of `DecodingConfig`."""


@runtime_checkable
class TranslationTokenizer(Tokenizer, Protocol):
    """A tokenizer of two sides: all that every `Tokenizer` has is of the text that the model writes."""

    @property
    def source_vocab_size(self) -> int:
        """One above the largest id that `encode_source` gives."""
        ...

    @property
    def languages(self) -> Sequence[str]:
        """The codes of the languages of which it must be told the one to write; none: no choice."""
        ...

    def encode_source(self, text: str, language: str | None = None) -> list[int]:
        """What the encoder reads for `text`, to be written in `language`: its ids, and those that mark its ends.

        It may be none for a text that holds nothing to read. Raises UserError for a language that the model lacks, and
        for none where it has several.
        """
        ...


@dataclass
class TranslationBundle:
    """A translation model and its tokenizer; `model_config` is what `build` made the model from.

    `decoding` is how its makers search, the keys of `SETTINGS` that they name.
    """

    model: EncoderDecoder
    tokenizer: TranslationTokenizer
    model_config: Mapping[str, Any]
    decoding: Mapping[str, Any] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write config.yaml, model.safetensors and tokenizer/ into a folder that does not exist yet."""
        config = {KEY: dict(self.model_config), DECODING: dict(self.decoding)}
        write_folder(folder, config, self.model, self.tokenizer)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the bundle beside `folder`, then put it in its place."""
        with replacing(folder) as beside:
            self.write(beside)


def is_translation_bundle(folder: str | os.PathLike[str]) -> bool:
    """Whether the bundle in `folder` is one of a translation model; UserError where it is no bundle at all."""
    return KEY in read_config(folder, ())


def load_translation_bundle(folder: str | os.PathLike[str], device: str | torch.device = "cpu") -> TranslationBundle:
    """The translation model in `folder`, in evaluation mode; UserError names what is missing or wrong."""
    config = read_config(folder, (KEY,), "the folder of a translation model")
    model, tokenizer = read_model(folder, config, KEY, EncoderDecoder)
    if not isinstance(tokenizer, TranslationTokenizer):
        raise UserError(f"{folder}: a {tokenizer.kind} tokenizer, expected one of a translation model")
    embedding = getattr(getattr(model.encoder, "front", None), "embedding", None)
    if embedding is None:
        raise UserError(f"{Path(folder) / CONFIG}: {KEY}.encoder.front: expected s2s.nn.embedding.TokenFront")
    if tokenizer.source_vocab_size > len(embedding.weight):
        raise UserError(
            f"{folder}: the tokenizer has {tokenizer.source_vocab_size} pieces of the source, the encoder takes "
            f"{len(embedding.weight)}; they come from different trainings"
        )
    decoding = config.get(DECODING) or {}
    check_settings(decoding, f"{Path(folder) / CONFIG}: {DECODING}")
    return TranslationBundle(model.eval().to(device), tokenizer, config[KEY], decoding)


def check_settings(decoding: Any, where: str) -> None:
    """Raise UserError, naming `where`, for a key that is not of `SETTINGS` and for a value of another type."""
    if not isinstance(decoding, Mapping):
        raise UserError(f"{where}: expected some of the keys {', '.join(SETTINGS)}, with numbers")
    for key, value in decoding.items():
        if key not in SETTINGS:
            raise UserError(f"{where}.{key}: no such key; expected {', '.join(SETTINGS)}.{nearest(str(key), SETTINGS)}")
        if not isinstance(value, int | SETTINGS[key]) or isinstance(value, bool):
            raise UserError(f"{where}.{key}: expected {SETTINGS[key].__name__}, got {value!r}")
