"""What a model is asked for an example, in training."""

from __future__ import annotations

import zlib

from s2s.data.parallel import Direction
from s2s.tokenizers.prompts import Prompt, plain


def prompt_of(name: str, direction: Direction, plain_share: float) -> Prompt:
    """The prompt of an example; so many of all names, always the same ones, ask for text without punctuation."""
    is_plain = zlib.crc32(name.encode()) < plain_share * 2**32
    return Prompt(direction.source, direction.target, punctuation=not is_plain)


def answer(prompt: Prompt, text: str) -> str:
    """`text` as it was asked for."""
    return text if prompt.punctuation else plain(text)
