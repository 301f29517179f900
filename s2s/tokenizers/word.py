"""Whole words as pieces, or other symbols with spaces between: phonemes, notes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from s2s.tokenizers.base import SPACE, SPECIAL_PIECES
from s2s.tokenizers.listed import ListedTokenizer


class WordTokenizer(ListedTokenizer):
    """One id per word; a piece begins with `▁`, as those of subwords that begin a word."""

    kind, named = "word", "word"

    @staticmethod
    def split(text: str) -> list[str]:
        return text.split()

    @staticmethod
    def join(pieces: Iterable[str]) -> str:
        return " ".join(pieces)

    def pieces(self, ids: Sequence[int]) -> list[str]:
        return [piece if piece in SPECIAL_PIECES else SPACE + piece for piece in super().pieces(ids)]
