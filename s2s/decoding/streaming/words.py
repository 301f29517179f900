"""Where words begin, so that none is shown half."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import Tensor

from s2s.decoding.scorers import RowState
from s2s.models.memory import Memory
from s2s.tokenizers.base import SPACE, Tokenizer

NEVER = float("-inf")
_WITHIN_CHARACTER = re.compile(r"\\x[89ab]|<0x[89AB]")  # UTF-8 continuation bytes, as tokenizers write them


def word_starts(tokenizer: Tokenizer, spaces: bool = True) -> Tensor:
    """Which tokens (V,) begin a word: those whose piece begins with a space.

    Without `spaces`, for languages written without any, those that begin a character.
    """
    pieces = tokenizer.pieces(range(tokenizer.vocab_size))
    if spaces:
        return torch.tensor([piece.startswith(SPACE) for piece in pieces])
    return torch.tensor([_WITHIN_CHARACTER.match(piece) is None for piece in pieces])


def whole_words(count: int, begins: Sequence[bool]) -> int:
    """The most of the first `count` tokens that are whole words, where `begins` says which tokens begin one."""
    while 0 < count < len(begins) and not begins[count]:
        count -= 1
    return count


class WordStart(RowState):
    """-inf for a token that goes on with the last word of a prefix, else 0: the words of a prefix are whole.

    `starts` (V,) bool are the tokens that begin a word; eos may always come. Without a prefix everything may.
    """

    max_gain = 0.0

    def __init__(self, starts: Tensor, eos_id: int) -> None:
        self.scores = torch.where(starts, 0.0, NEVER)
        self.scores[eos_id] = 0.0

    def start(self, memory: Memory, beam_size: int) -> Tensor:
        """State (N,) bool: a prefix has just been read."""
        self.scores = self.scores.to(memory.states.device)
        return memory.lengths.new_zeros(len(memory.lengths) * beam_size, dtype=torch.bool)

    def read_prefix(self, tokens: Tensor, lengths: Tensor, state: Tensor) -> Tensor:
        """As `s2s.decoding.prefix.read_prefix`."""
        state.copy_((lengths > 0).repeat_interleave(len(state) // len(lengths)))
        return lengths.new_zeros(lengths.shape, dtype=torch.float64)

    def score(self, tokens: Tensor, state: Tensor) -> Tensor:
        scores = torch.where(state.unsqueeze(1), self.scores, 0.0)
        state &= tokens < 0
        return scores
