"""Tokenizers whose pieces are written out in a list: characters, or words."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from s2s.errors import UserError
from s2s.tokenizers.base import (
    BLANK_ID,
    BOS_ID,
    EOS_ID,
    SPECIAL_PIECES,
    UNK_ID,
    check_ids,
    normalise,
    save_files,
)

if TYPE_CHECKING:
    from typing_extensions import Self

TOKENS = "tokens.txt"


class ListedTokenizer(ABC):
    """One id for each of `pieces`, V in id order, the four special ones first.

    Raises ValueError where they are not that.
    """

    kind: str
    named: str  # what a piece is
    blank_id, unk_id, bos_id, eos_id = BLANK_ID, UNK_ID, BOS_ID, EOS_ID

    def __init__(self, pieces: Sequence[str]) -> None:
        self._pieces = list(pieces)
        self._ids = {piece: index for index, piece in enumerate(self._pieces)}
        if tuple(self._pieces[: len(SPECIAL_PIECES)]) != SPECIAL_PIECES:
            raise ValueError(f"the first pieces must be {' '.join(SPECIAL_PIECES)}")
        for index, piece in enumerate(self._pieces[len(SPECIAL_PIECES) :], start=len(SPECIAL_PIECES)):
            if self.split(piece) != [piece]:
                raise ValueError(f"piece {index} must be one {self.named}, not {piece!r}")
            if self._ids[piece] != index:
                raise ValueError(f"piece {piece!r} is there twice")

    @staticmethod
    @abstractmethod
    def split(text: str) -> list[str]:
        """The pieces of a normalised text."""

    @staticmethod
    @abstractmethod
    def join(pieces: Iterable[str]) -> str:
        """The text of pieces."""

    @classmethod
    def train(cls, lines: Iterable[str], vocab_size: int | None = None) -> Self:
        """Learn the pieces of the lines, most frequent first, ties by code point.

        `vocab_size` keeps at most so many, special ones included. Raises UserError for empty text.
        """
        counts: Counter[str] = Counter()
        for line in lines:
            counts.update(cls.split(normalise(line)))
        if not counts:
            raise UserError("no text to train a tokenizer on: every line is empty; give text with at least one word")
        if vocab_size is not None and vocab_size <= len(SPECIAL_PIECES):
            raise UserError(
                f"vocab_size {vocab_size} leaves no room for {cls.named}s: give {len(SPECIAL_PIECES) + 1} or more"
            )
        found = sorted((piece for piece in counts if piece not in SPECIAL_PIECES), key=lambda p: (-counts[p], p))
        return cls([*SPECIAL_PIECES, *found][:vocab_size])

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Self:
        """Read `tokens.txt` of the folder. Raises UserError where it is absent or not a list of such pieces."""
        path = Path(folder) / TOKENS
        try:
            pieces = path.read_bytes().decode("utf-8").removesuffix("\n").split("\n")
            return cls(pieces)
        except OSError as error:
            raise UserError(f"{path}: cannot read the pieces: {error.strerror or error}") from error
        except ValueError as error:  # UnicodeDecodeError is one
            raise UserError(
                f"{path}: not a list of {cls.named}s, one a line: {error}; train the tokenizer again"
            ) from error

    @property
    def vocab_size(self) -> int:
        return len(self._pieces)

    def encode(self, text: str) -> list[int]:
        return [self._ids.get(piece, UNK_ID) for piece in self.split(normalise(text))]

    def decode(self, ids: Sequence[int]) -> str:
        check_ids(ids, self.vocab_size)
        return self.join(self._pieces[index] for index in ids if index >= len(SPECIAL_PIECES))

    def pieces(self, ids: Sequence[int]) -> list[str]:
        check_ids(ids, self.vocab_size)
        return [self._pieces[index] for index in ids]

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write `tokens.txt` (UTF-8, one piece a line, id = line number from 0) and `tokenizer.json`."""
        tokens = "".join(f"{piece}\n" for piece in self._pieces)
        save_files(folder, self.kind, self.vocab_size, TOKENS, tokens.encode("utf-8"))
