"""Phonemes as pieces: words by their pronunciations, and back."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path

from s2s.errors import UserError
from s2s.files import replacing
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

TOKENS, LEXICON = "tokens.txt", "lexicon.txt"
SPELLED = "="  # before a letter of a word that has no pronunciation
_VARIANT = re.compile(r"\(\d+\)$")

Lexicon = Mapping[str, Sequence[tuple[str, ...]]]
"""The pronunciations of each word, the usual one first."""


class LexiconTokenizer:
    """One id for each phoneme of a lexicon, one for the end of a word, and one for each letter of words without it.

    A text is the first pronunciation of each word. Phonemes are read back as the word that has them, the first of
    `lexicon` where several do; phonemes that no word has are joined by -, to be seen. Raises ValueError where `pieces`
    do not begin with the special ones and the end of a word.
    """

    kind = "lexicon"
    blank_id, unk_id, bos_id, eos_id = BLANK_ID, UNK_ID, BOS_ID, EOS_ID

    def __init__(self, pieces: Sequence[str], lexicon: Lexicon) -> None:
        self._pieces, self.lexicon = list(pieces), lexicon
        if tuple(self._pieces[: len(SPECIAL_PIECES) + 1]) != (*SPECIAL_PIECES, SPACE):
            raise ValueError(f"the first pieces must be {' '.join(SPECIAL_PIECES)} {SPACE}")
        self._ids = {piece: index for index, piece in enumerate(self._pieces)}
        self.vocab_size = len(self._pieces)
        self._words: dict[tuple[str, ...], str] = {}
        for word, spoken in lexicon.items():
            for each in spoken:
                self._words.setdefault(tuple(each), word)

    @classmethod
    def train(cls, lines: Iterable[str], lexicon: Lexicon, vocab_size: int | None = None) -> LexiconTokenizer:
        """The pieces of the lines, most frequent first; of words that sound alike the most frequent is read back.

        `vocab_size` keeps at most so many pieces. Raises UserError for empty text.
        """
        words = Counter(word for line in lines for word in normalise(line).split())
        if not words:
            raise UserError("no text to train a tokenizer on: every line is empty; give text with at least one word")
        counts: Counter[str] = Counter()
        for word, count in words.items():
            counts.update(dict.fromkeys(_spoken(word, lexicon), 0))
            for piece in _spoken(word, lexicon):
                counts[piece] += count
        first = sorted(lexicon, key=lambda word: -words[word])  # stable: else in the lexicon's own order
        found = sorted(counts, key=lambda piece: (-counts[piece], piece))
        return cls([*SPECIAL_PIECES, SPACE, *found][:vocab_size], {word: lexicon[word] for word in first})

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> LexiconTokenizer:
        """Read what `save` wrote. Raises UserError where something is missing or wrong."""
        path = Path(folder) / TOKENS
        try:
            return cls(path.read_text(encoding="utf-8").split("\n")[:-1], read_lexicon(Path(folder) / LEXICON))
        except (OSError, ValueError) as error:  # UnicodeDecodeError is one
            raise UserError(f"{path}: not a list of phonemes ({error}); train the tokenizer again") from error

    def encode(self, text: str) -> list[int]:
        ids: list[int] = []
        for word in normalise(text).split():
            ids += [self._ids[SPACE]] if ids else []
            ids += [self._ids.get(piece, UNK_ID) for piece in _spoken(word, self.lexicon)]
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        pieces = [piece for piece in self.pieces(ids) if piece not in SPECIAL_PIECES]
        words = [tuple(own) for is_end, own in groupby(pieces, key=lambda piece: piece == SPACE) if not is_end]
        return " ".join(map(self._word, words))

    def _word(self, pieces: tuple[str, ...]) -> str:
        if all(piece.startswith(SPELLED) for piece in pieces):
            return "".join(piece.removeprefix(SPELLED) for piece in pieces)
        return self._words.get(pieces) or "-".join(piece.removeprefix(SPELLED) for piece in pieces)

    def pieces(self, ids: Sequence[int]) -> list[str]:
        check_ids(ids, self.vocab_size)
        return [self._pieces[index] for index in ids]

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write `tokens.txt`, a piece a line, `lexicon.txt` and `tokenizer.json`."""
        with replacing(Path(folder) / LEXICON) as beside:
            lines = (f"{word} {' '.join(each)}\n" for word, spoken in self.lexicon.items() for each in spoken)
            beside.write_text("".join(lines), encoding="utf-8")
        tokens = "".join(f"{piece}\n" for piece in self._pieces)
        save_files(folder, self.kind, self.vocab_size, TOKENS, tokens.encode("utf-8"))


def read_lexicon(path: str | os.PathLike[str]) -> dict[str, list[tuple[str, ...]]]:
    """Lines `word phoneme phoneme ...`, several for a word of several pronunciations (or word(2); after # come notes).

    Raises UserError for a file that cannot be read and for a word without phonemes, with its line.
    """
    found: dict[str, list[tuple[str, ...]]] = {}
    try:
        lines = Path(path).read_bytes().decode("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot read the pronunciations ({error}); expected UTF-8 text") from error
    for number, line in enumerate(lines, start=1):
        word, *phonemes = line.split(" #")[0].split() or [""]
        if not word:
            continue
        if not phonemes:
            raise UserError(f"{path}:{number}: '{line}'; expected a word and its phonemes, with spaces between")
        own = found.setdefault(_VARIANT.sub("", word), [])
        if tuple(phonemes) not in own:
            own.append(tuple(phonemes))
    if not found:
        raise UserError(f"{path}: no words; expected lines of a word and its phonemes")
    return found


def _spoken(word: str, lexicon: Lexicon) -> Sequence[str]:
    return lexicon[word][0] if word in lexicon else [SPELLED + letter for letter in word]
