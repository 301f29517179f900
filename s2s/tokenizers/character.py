"""Characters as pieces."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from s2s.errors import UserError
from s2s.tokenizers.base import (
    BLANK_ID,
    BOS_ID,
    EOS_ID,
    SPACE,
    SPECIAL_PIECES,
    UNK_ID,
    check_ids,
    normalise,
    save_files,
)

TOKENS = "tokens.txt"


class CharacterTokenizer:
    """One id per Unicode character (NFC), the space as `▁`.

    `pieces` are the V pieces in id order, the four special ones first. Raises ValueError where they are not that.
    """

    kind = "char"
    blank_id, unk_id, bos_id, eos_id = BLANK_ID, UNK_ID, BOS_ID, EOS_ID

    def __init__(self, pieces: Sequence[str]) -> None:
        self._pieces = list(pieces)
        self._ids = {piece: index for index, piece in enumerate(self._pieces)}
        characters = self._pieces[len(SPECIAL_PIECES) :]
        if tuple(self._pieces[: len(SPECIAL_PIECES)]) != SPECIAL_PIECES:
            raise ValueError(f"the first pieces must be {' '.join(SPECIAL_PIECES)}")
        for index, piece in enumerate(characters, start=len(SPECIAL_PIECES)):
            if len(piece) != 1:
                raise ValueError(f"piece {index} must be one character, not {piece!r}")
            if self._ids[piece] != index:
                raise ValueError(f"piece {piece!r} is there twice")

    @classmethod
    def train(cls, lines: Iterable[str], vocab_size: int | None = None) -> CharacterTokenizer:
        """Learn the characters of the lines, most frequent first, ties by code point.

        `vocab_size` keeps at most so many pieces, special ones included. Raises UserError for empty text.
        """
        counts: Counter[str] = Counter()
        for line in lines:
            counts.update(normalise(line).replace(" ", SPACE))
        if not counts:
            raise UserError("no text to train a tokenizer on: every line is empty; give text with at least one word")
        if vocab_size is not None and vocab_size <= len(SPECIAL_PIECES):
            raise UserError(
                f"vocab_size {vocab_size} leaves no room for characters: give {len(SPECIAL_PIECES) + 1} or more"
            )
        characters = sorted(counts, key=lambda character: (-counts[character], character))
        return cls([*SPECIAL_PIECES, *characters][:vocab_size])

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> CharacterTokenizer:
        """Read `tokens.txt` of the folder. Raises UserError where it is absent or not a list of characters."""
        path = Path(folder) / TOKENS
        try:
            pieces = path.read_bytes().decode("utf-8").removesuffix("\n").split("\n")
            return cls(pieces)
        except OSError as error:
            raise UserError(f"{path}: cannot read the pieces: {error.strerror or error}") from error
        except ValueError as error:  # UnicodeDecodeError is one
            raise UserError(
                f"{path}: not a list of characters, one a line: {error}; train the tokenizer again"
            ) from error

    @property
    def vocab_size(self) -> int:
        return len(self._pieces)

    def encode(self, text: str) -> list[int]:
        return [self._ids.get(character, UNK_ID) for character in normalise(text).replace(" ", SPACE)]

    def decode(self, ids: Sequence[int]) -> str:
        check_ids(ids, self.vocab_size)
        return "".join(self._pieces[index] for index in ids if index >= len(SPECIAL_PIECES)).replace(SPACE, " ")

    def pieces(self, ids: Sequence[int]) -> list[str]:
        check_ids(ids, self.vocab_size)
        return [self._pieces[index] for index in ids]

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write `tokens.txt` (UTF-8, one piece a line, id = line number from 0) and `tokenizer.json`."""
        tokens = "".join(f"{piece}\n" for piece in self._pieces)
        save_files(folder, self.kind, self.vocab_size, TOKENS, tokens.encode("utf-8"))
