"""The tokenizer of Marian's translation models (OPUS-MT): sentencepiece splits, a vocabulary has the ids."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import sentencepiece

from s2s.errors import UserError, nearest
from s2s.files import replacing
from s2s.tokenizers.base import DESCRIPTION, SPACE, check_ids, save_files

SOURCE, TARGET = "source.spm", "target.spm"
VOCABULARY, TARGET_VOCABULARY = "vocab.json", "target_vocab.json"
EOS, UNK, PAD = "</s>", "<unk>", "<pad>"
_LANGUAGE = re.compile(r"\s*>>([^<>\s]+)<<")


class MarianTokenizer:
    """Text to ids and back, the source and the target by a sentencepiece model each.

    `ids` are the pieces with their ids, of both sides, or of the source where there are `target_ids`. Target ids are
    below V, `vocab_size` (default: one above the largest); those of no piece have no text. A piece >>fra<< is the name
    of a language to translate into. Decoding begins with <pad>, which is never output: that is `bos_id`. There is no
    blank: `blank_id` is -1. Raises ValueError where a model is none, <unk>, </s> or <pad> is missing, or an id is
    wrong.
    """

    kind = "marian"
    blank_id = -1

    def __init__(
        self,
        source: bytes,
        target: bytes,
        ids: Mapping[str, int],
        target_ids: Mapping[str, int] | None = None,
        vocab_size: int | None = None,
    ) -> None:
        self._source, self._target = _processor(source, SOURCE), _processor(target, TARGET)
        self._source_ids, self._own_target_ids = dict(ids), target_ids
        self._target_ids = dict(target_ids) if target_ids is not None else self._source_ids
        self.source_vocab_size = _check_vocabulary(self._source_ids, VOCABULARY, (EOS, UNK))
        size = _check_vocabulary(
            self._target_ids, VOCABULARY if target_ids is None else TARGET_VOCABULARY, (EOS, UNK, PAD)
        )
        self.vocab_size = size if vocab_size is None else vocab_size
        if size > self.vocab_size:
            raise ValueError(f"piece {size - 1} is not below the size of the vocabulary, {self.vocab_size}")
        self._pieces = {index: piece for piece, index in self._target_ids.items()}
        self.eos_id, self.unk_id, self.bos_id = (self._target_ids[piece] for piece in (EOS, UNK, PAD))
        found = (_LANGUAGE.fullmatch(piece) for piece in self._source_ids)
        self.languages = tuple(match[1] for match in found if match)
        self._textless = {EOS, UNK, PAD, *(f">>{code}<<" for code in self.languages)}

    @classmethod
    def from_huggingface(cls, folder: str | os.PathLike[str], vocab_size: int | None = None) -> MarianTokenizer:
        """Read `source.spm`, `target.spm`, `vocab.json` and, where it is there, `target_vocab.json`.

        Raises UserError naming the file that is missing or broken.
        """
        folder = Path(folder)
        models = [_read(folder / name) for name in (SOURCE, TARGET)]
        target_ids = _read_ids(folder / TARGET_VOCABULARY) if (folder / TARGET_VOCABULARY).is_file() else None
        try:
            return cls(models[0], models[1], _read_ids(folder / VOCABULARY), target_ids, vocab_size)
        except ValueError as error:
            raise UserError(f"{folder}: not a whole tokenizer of Marian: {error}; restore its files") from error

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> MarianTokenizer:
        """Read the files that `save` wrote. Raises UserError where one is absent or broken."""
        path = Path(folder) / DESCRIPTION
        try:
            vocab_size = int(json.loads(_read(path))["vocab_size"])
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f'{path}: expected {{"vocab_size": ...}}; restore the file') from error
        return cls.from_huggingface(folder, vocab_size)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the files of `from_huggingface`, and `tokenizer.json`."""
        folder = Path(folder)
        contents = {VOCABULARY: _json(self._source_ids), TARGET: self._target.serialized_model_proto()}
        if self._own_target_ids is not None:
            contents[TARGET_VOCABULARY] = _json(self._target_ids)
        try:
            for name, content in contents.items():
                with replacing(folder / name) as path:
                    path.write_bytes(content)
        except OSError as error:
            raise UserError(f"{folder}: cannot write the tokenizer here: {error.strerror or error}") from error
        save_files(folder, self.kind, self.vocab_size, SOURCE, self._source.serialized_model_proto())

    def encode_source(self, text: str, language: str | None = None) -> list[int]:
        """The ids of a text to translate, and </s>; before them the code of the `language` to translate into.

        A code at the begin of the text (>>fra<<) comes before `language`. None for a text without pieces. Raises
        UserError for a language that the model lacks, and for none where it has several.
        """
        own = _LANGUAGE.match(text) if self.languages else None
        if own:
            language, text = own[1], text[own.end() :]
        begin, ids = self._language_ids(language), _encode(self._source, text, self._source_ids)
        return [*begin, *ids, self._source_ids[EOS]] if ids else []

    def _language_ids(self, language: str | None) -> list[int]:
        if language is None and not self.languages:
            return []
        if language in self.languages:
            return [self._source_ids[f">>{language}<<"]]
        if not self.languages:
            raise UserError(f"target language '{language}': the model translates into one language only; name none")
        asked = (
            "no target language: name one" if language is None else f"target language '{language}': the model lacks it"
        )
        raise UserError(f"{asked}; it has {', '.join(self.languages)}.{nearest(language or '', self.languages)}")

    def encode(self, text: str) -> list[int]:
        """The ids of a text as the model would write it; sentencepiece normalises it."""
        return _encode(self._target, text, self._target_ids)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of the ids; special ones are passed over. Raises ValueError for an id outside [0, V)."""
        check_ids(ids, self.vocab_size)
        found = (self._pieces.get(index) for index in ids)
        text = self._target.decode_pieces([piece for piece in found if piece and piece not in self._textless])
        return str(text).replace(SPACE, " ").strip()  # pieces of the source language keep their mark of a space

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """The piece of every id, special ones included, <id> where there is none."""
        check_ids(ids, self.vocab_size)
        return [self._pieces.get(index, f"<{index}>") for index in ids]


def _encode(processor: sentencepiece.SentencePieceProcessor, text: str, ids: Mapping[str, int]) -> list[int]:
    return [ids.get(piece, ids[UNK]) for piece in processor.encode(text, out_type=str)]


def _processor(model: bytes, name: str) -> sentencepiece.SentencePieceProcessor:
    try:
        if model:  # sentencepiece takes none for "no model given"
            return sentencepiece.SentencePieceProcessor(model_proto=model)
    except RuntimeError as error:
        raise ValueError(f"{name} is not a sentencepiece model") from error
    raise ValueError(f"{name} is empty")


def _check_vocabulary(ids: Mapping[str, int], name: str, needed: Sequence[str]) -> int:
    """One above the largest id; ValueError where an id comes twice or is none, or a needed piece is not there."""
    for piece in needed:
        if piece not in ids:
            raise ValueError(f"{name} has no piece {piece}")
    seen: dict[int, str] = {}
    for piece, index in ids.items():
        if not isinstance(index, int) or isinstance(index, bool) or index < 0:
            raise ValueError(f"{name}: piece '{piece}' has the id {index!r}")
        if index in seen:
            raise ValueError(f"{name}: '{piece}' and '{seen[index]}' have the same id, {index}")
        seen[index] = piece
    return 1 + max(seen)


def _json(ids: Mapping[str, int]) -> bytes:
    return (json.dumps(ids, ensure_ascii=False, indent=0) + "\n").encode()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot read it: {error.strerror or error}") from error


def _read_ids(path: Path) -> dict[str, int]:
    try:
        ids = json.loads(_read(path))
    except ValueError as error:
        raise UserError(f"{path}: not readable as JSON ({error}); copy it again") from error
    if not isinstance(ids, dict):
        raise UserError(f"{path}: expected pieces with their ids")
    return ids
