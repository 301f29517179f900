"""One set of pieces for all languages of a translation model, and a token for each language to write."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from s2s.errors import UserError, nearest
from s2s.tokenizers.base import Tokenizer, check_ids, save_files

LANGUAGES, PIECES = "languages.txt", "pieces"
_CODE = re.compile(r"[A-Za-z0-9_-]+")


class JointTokenizer:
    """A tokenizer of both sides of a translation, made of one that was trained on the text of all its languages.

    Where it writes several `languages`, a source begins with the token of the one to write, <2de> (Johnson et al. 2017,
    "Google's multilingual neural machine translation system", section 3); their ids come after those of `tokenizer`.
    Raises ValueError for a language that is no code of letters, digits, - and _, or that is there twice.
    """

    kind = "joint"

    def __init__(self, tokenizer: Tokenizer, languages: Sequence[str] = ()) -> None:
        self.languages = tuple(languages)
        for language in self.languages:
            if not _CODE.fullmatch(language):
                raise ValueError(f"language '{language}': expected a code such as de or pt-BR")
        if len(set(self.languages)) < len(self.languages):
            raise ValueError(f"languages {', '.join(self.languages)}: one of them is there twice")
        self.tokenizer = tokenizer
        self.blank_id, self.unk_id = tokenizer.blank_id, tokenizer.unk_id
        self.bos_id, self.eos_id = tokenizer.bos_id, tokenizer.eos_id
        self.vocab_size = self.source_vocab_size = tokenizer.vocab_size + len(self.languages)
        self.language_ids = {code: tokenizer.vocab_size + i for i, code in enumerate(self.languages)}

    def encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text)

    def encode_source(self, text: str, language: str | None = None) -> list[int]:
        """As in `TranslationTokenizer`: the token of the language, where there is a choice, the pieces, and eos."""
        return [*self._language(language), *self.tokenizer.encode(text), self.eos_id]

    def _language(self, language: str | None) -> list[int]:
        there_are = ", ".join(self.languages)
        if not self.languages:
            if language is not None:
                raise UserError(f"language '{language}': this model writes one language only; leave it out")
            return []
        if language is None:
            raise UserError(f"this model writes several languages; name one of {there_are}")
        if language not in self.language_ids:
            raise UserError(
                f"language '{language}': the model does not write it.{nearest(language, self.languages)} "
                f"It writes {there_are}"
            )
        return [self.language_ids[language]]

    def decode(self, ids: Sequence[int]) -> str:
        check_ids(ids, self.vocab_size)
        return self.tokenizer.decode([index for index in ids if index < self.tokenizer.vocab_size])

    def pieces(self, ids: Sequence[int]) -> list[str]:
        check_ids(ids, self.vocab_size)
        first = self.tokenizer.vocab_size
        return [
            f"<2{self.languages[index - first]}>" if index >= first else self.tokenizer.pieces([index])[0]
            for index in ids
        ]

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write `tokenizer.json`, `languages.txt`, a code a line, and the folder `pieces` of the tokenizer within."""
        self.tokenizer.save(Path(folder) / PIECES)
        text = "".join(f"{code}\n" for code in self.languages)
        save_files(folder, self.kind, self.vocab_size, LANGUAGES, text.encode())


def read_languages(folder: str | os.PathLike[str]) -> list[str]:
    """The languages of a folder that `save` wrote; UserError where there is no such file."""
    path = Path(folder) / LANGUAGES
    try:
        return path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot read the languages ({error}); restore the folder") from error
