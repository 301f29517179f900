"""Characters as pieces."""

from __future__ import annotations

from collections.abc import Iterable

from s2s.tokenizers.base import SPACE
from s2s.tokenizers.listed import ListedTokenizer


class CharacterTokenizer(ListedTokenizer):
    """One id per Unicode character (NFC), the space as `▁`."""

    kind, named = "char", "character"

    @staticmethod
    def split(text: str) -> list[str]:
        return list(text.replace(" ", SPACE))

    @staticmethod
    def join(pieces: Iterable[str]) -> str:
        return "".join(pieces).replace(SPACE, " ")
