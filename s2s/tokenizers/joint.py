"""One set of pieces for all languages of a model, and the tokens of its prompts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from s2s.errors import UserError
from s2s.files import replacing
from s2s.tokenizers.base import Tokenizer, check_ids, save_files
from s2s.tokenizers.prompts import TASKS, PromptTokens

LANGUAGES, TASK_NAMES, PIECES = "languages.txt", "tasks.txt", "pieces"


class JointTokenizer:
    """A tokenizer of both sides of a translation, made of one that was trained on the text of all its languages.

    Where it knows `languages`, a decoder is told by a prompt what to write (`prompts`): the ids of its tokens come
    after those of `tokenizer`. Raises ValueError as `PromptTokens` does.
    """

    kind = "joint"

    def __init__(self, tokenizer: Tokenizer, languages: Sequence[str] = (), tasks: Sequence[str] = TASKS) -> None:
        self.tokenizer = tokenizer
        self.languages = tuple(languages)
        self.prompts = PromptTokens(self.languages, tasks, tokenizer.vocab_size) if self.languages else None
        self.blank_id, self.unk_id = tokenizer.blank_id, tokenizer.unk_id
        self.bos_id, self.eos_id = tokenizer.bos_id, tokenizer.eos_id
        self.vocab_size = self.source_vocab_size = tokenizer.vocab_size + (len(self.prompts.ids) if self.prompts else 0)

    def encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text)

    def encode_source(self, text: str, language: str | None = None) -> list[int]:
        """As in `TranslationTokenizer`: the pieces, and eos; which language to write is for a prompt to say."""
        if language is not None and not self.languages:
            raise UserError(f"language '{language}': this model writes one language only; leave it out")
        return [*self.tokenizer.encode(text), self.eos_id]

    def decode(self, ids: Sequence[int]) -> str:
        check_ids(ids, self.vocab_size)
        return self.tokenizer.decode([index for index in ids if index < self.tokenizer.vocab_size])

    def pieces(self, ids: Sequence[int]) -> list[str]:
        check_ids(ids, self.vocab_size)
        first = self.tokenizer.vocab_size
        of_prompts = self.prompts.pieces if self.prompts else ()
        return [of_prompts[i - first] if i >= first else self.tokenizer.pieces([i])[0] for i in ids]

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write `tokenizer.json`, the folder `pieces` of the tokenizer within, and the words of prompts.

        These are `languages.txt`, a code a line, and where there are any `tasks.txt`.
        """
        self.tokenizer.save(Path(folder) / PIECES)
        if self.prompts is not None:
            with replacing(Path(folder) / TASK_NAMES) as beside:
                beside.write_bytes(_lines(self.prompts.tasks))
        save_files(folder, self.kind, self.vocab_size, LANGUAGES, _lines(self.languages))


def prompt_tokens(tokenizer: Tokenizer) -> PromptTokens | None:
    """The tokens of a tokenizer's prompts; None where its model takes none."""
    return tokenizer.prompts if isinstance(tokenizer, JointTokenizer) else None


def read_words(folder: str | os.PathLike[str]) -> tuple[list[str], list[str]]:
    """The languages and tasks of a folder that `save` wrote; UserError where a file of them is missing."""
    languages = _read(Path(folder) / LANGUAGES)
    return languages, _read(Path(folder) / TASK_NAMES) if languages else []


def _lines(words: Sequence[str]) -> bytes:
    return "".join(f"{word}\n" for word in words).encode()


def _read(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); restore the folder") from error
