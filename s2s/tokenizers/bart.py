"""BART's tokenizer: byte-level BPE, with <s> and </s> around the text to read (arXiv:1910.13461)."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from s2s.errors import UserError
from s2s.tokenizers.base import DESCRIPTION, SPACE, check_ids, save_files
from s2s.tokenizers.byte_bpe import ByteBPE

VOCABULARY = "vocabulary.tiktoken"
BOS, EOS, UNK = "<s>", "</s>", "<unk>"


class BartTokenizer:
    """Text to ids and back.

    `bpe` has the tokens of text, `special` the names and ids of the others; what is not below V, `vocab_size`, is left
    out (facebook/bart-large-cnn has no row for <mask>). There is no blank, and no text that the vocabulary lacks:
    `blank_id` is -1, and `encode` never gives `unk_id`. Raises ValueError where <s> or </s> is missing, or V is too
    small for the tokens of text.
    """

    kind = "bart"
    blank_id = -1
    languages: tuple[str, ...] = ()

    def __init__(self, bpe: ByteBPE, special: Mapping[str, int], vocab_size: int | None = None) -> None:
        self.vocab_size = vocab_size or max(bpe.vocab_size - 1, *special.values()) + 1
        self._bpe = bpe
        self._special = {name: index for name, index in special.items() if index < self.vocab_size}
        self._names = {index: name for name, index in self._special.items()}
        for name in (BOS, EOS):
            if name not in self._special:
                raise ValueError(f"no token {name}")
        self.bos_id, self.eos_id = self._special[BOS], self._special[EOS]
        self.unk_id = self._special.get(UNK, -1)
        largest = max(index for index in range(bpe.vocab_size) if index in bpe)
        if largest >= self.vocab_size:
            raise ValueError(f"token {largest} is not below the size of the vocabulary, {self.vocab_size}")

    @classmethod
    def from_huggingface(cls, folder: str | os.PathLike[str], vocab_size: int | None = None) -> BartTokenizer:
        """Read `vocab.json` and `merges.txt`, else `tokenizer.json`; UserError names what is missing or broken."""
        folder = Path(folder)
        vocab, merges, both = (folder / name for name in ("vocab.json", "merges.txt", "tokenizer.json"))
        if not both.is_file() and not (vocab.is_file() and merges.is_file()):
            raise UserError(f"{folder}: no vocabulary here: expected vocab.json with merges.txt, or tokenizer.json")
        bpe = (
            ByteBPE.from_vocab_and_merges(vocab, merges)
            if vocab.is_file() and merges.is_file()
            else ByteBPE.from_tokenizer_json(both)
        )
        return cls._made(bpe, bpe.special, vocab_size, folder)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> BartTokenizer:
        """Read the files that `save` wrote. Raises UserError where one is absent or broken."""
        path = Path(folder) / DESCRIPTION
        try:
            description = json.loads(path.read_text(encoding="utf-8"))
            special = {str(name): int(index) for name, index in description["special"].items()}
            vocab_size = int(description["vocab_size"])
        except OSError as error:
            raise UserError(f"{path}: cannot read it: {error.strerror or error}") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f'{path}: expected "vocab_size", and "special" with names and ids; restore it') from error
        return cls._made(ByteBPE.from_tiktoken(Path(folder) / VOCABULARY), special, vocab_size, path)

    @classmethod
    def _made(cls, bpe: ByteBPE, special: Mapping[str, int], vocab_size: int | None, path: Path) -> BartTokenizer:
        try:
            return cls(bpe, special, vocab_size)
        except ValueError as error:
            raise UserError(f"{path}: not a vocabulary of BART: {error}") from error

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write `vocabulary.tiktoken` and `tokenizer.json`, which has the special tokens."""
        more = {"special": self._special}
        save_files(folder, self.kind, self.vocab_size, VOCABULARY, self._bpe.to_tiktoken(), more)

    @property
    def source_vocab_size(self) -> int:
        """V: both sides have one vocabulary."""
        return self.vocab_size

    def encode_source(self, text: str, language: str | None = None) -> list[int]:
        """The ids of a text to read, between <s> and </s>; UserError for a `language`: there is no choice."""
        if language is not None:
            raise UserError(f"target language '{language}': the model writes one language only; name none")
        return [self.bos_id, *self.encode(text), self.eos_id]

    def encode(self, text: str) -> list[int]:
        """The ids of the text as it is; names of special tokens in it are text."""
        return self._bpe.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of the ids; special ones are passed over, and bytes that are not UTF-8 give U+FFFD."""
        check_ids(ids, self.vocab_size)
        return self._bpe.decode(ids)

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """The piece of every id: ▁ for a space, \\xe3 for a byte of part of a character, special tokens by name."""
        check_ids(ids, self.vocab_size)
        return [self._piece(index) for index in ids]

    def _piece(self, index: int) -> str:
        if index in self._bpe:
            return self._bpe.token_bytes(index).decode("utf-8", "backslashreplace").replace(" ", SPACE)
        return self._names.get(index, f"<{index}>")
