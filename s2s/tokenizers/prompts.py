"""Prompts: which language is heard or read, which one is to be written, and how."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from s2s.errors import UserError, nearest

TASKS = ("transcribe", "translate")
PUNCTUATION = ("<pnc>", "<nopnc>")
_CODE = re.compile(r"[A-Za-z0-9_-]+")
_WITHIN = "'’-"  # a word may have these, if not at its ends


@dataclass(frozen=True)
class Prompt:
    """What is asked of a model: text of `source`, heard or read, in `target`; without `punctuation` in lower case too.

    `task` is one of the words that the model knows; "": "transcribe" where both languages are one, else "translate".
    """

    source: str
    target: str
    task: str = ""
    punctuation: bool = True


class PromptTokens:
    """A token for each word of a prompt, with ids from `first_id` on.

    A prompt is source language, target language, task, and whether to punctuate, as Canary's (Puvvada et al. 2024,
    arXiv:2406.19674); the same token stands for a language on either side. Raises ValueError for a word that is no code
    of letters, digits, - and _, or that is there twice.
    """

    size = 4

    def __init__(self, languages: Sequence[str], tasks: Sequence[str], first_id: int) -> None:
        self.languages, self.tasks = tuple(languages), tuple(tasks)
        words = (*self.languages, *self.tasks)
        for word in words:
            if not _CODE.fullmatch(word):
                raise ValueError(f"'{word}': expected a code of letters, such as de or pt-BR")
        self.pieces = (*(f"<{word}>" for word in words), *PUNCTUATION)
        if len(set(self.pieces)) < len(self.pieces):
            raise ValueError(f"{', '.join(self.pieces)}: one of them is there twice")
        self.ids = {piece: first_id + i for i, piece in enumerate(self.pieces)}

    def encode(self, prompt: Prompt) -> list[int]:
        """The ids of a prompt, `size` of them; UserError for a word that has no token, naming those that have one."""
        task = prompt.task or ("transcribe" if prompt.source == prompt.target else "translate")
        words = [self._known("language", prompt.source, self.languages)]
        words += [self._known("language", prompt.target, self.languages), self._known("task", task, self.tasks)]
        return [self.ids[piece] for piece in (*(f"<{word}>" for word in words), PUNCTUATION[not prompt.punctuation])]

    def numbers(self, prompt: Prompt) -> tuple[int, int]:
        """Which of the languages, from 0, are the source and the target."""
        return self.languages.index(prompt.source), self.languages.index(prompt.target)

    @staticmethod
    def _known(kind: str, word: str, known: Sequence[str]) -> str:
        if word not in known:
            raise UserError(
                f"{kind} '{word}': the model has no token for it.{nearest(word, known)} It knows {', '.join(known)}"
            )
        return word


def plain(text: str) -> str:
    """`text` as it is written without punctuation: in lower case, only words and the signs within them."""
    words = ("".join(c if _belongs(c) else " " for c in word).strip(_WITHIN + " ") for word in text.lower().split())
    return " ".join(" ".join(words).split())


def _belongs(character: str) -> bool:
    return character in _WITHIN or not unicodedata.category(character).startswith("P")
