"""Phrases as tokens: a file of them, and automata that follow them in all hypotheses at once."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from s2s.errors import UserError
from s2s.scoring.transcripts import numbered_lines
from s2s.tokenizers.base import Tokenizer, normalise
from s2s.tokenizers.whisper import WhisperTokenizer

MAX_CELLS = 2**28  # of four bytes: 1 GiB


@dataclass(frozen=True)
class TokenAutomaton:
    """A deterministic automaton of S states over token ids; tokens that act alike share one of A columns."""

    columns: Tensor  # (V,) the column of each token
    table: Tensor  # (S,A) int32, the state that each column leads to

    def to(self, device: torch.device) -> TokenAutomaton:
        return TokenAutomaton(self.columns.to(device), self.table.to(device))

    def following(self, state: Tensor) -> Tensor:
        """States (N,) -> the states (N,A) that their columns lead to."""
        return self.table[state].long()

    def advance(self, tokens: Tensor, state: Tensor) -> None:
        """Move states (N,) on by tokens (N,), in place; -1 leaves a row as it was."""
        following = self.table[state, self.columns[tokens.clamp(min=0)]].long()
        state.copy_(torch.where(tokens < 0, state, following))


def empty_table(num_states: int, num_columns: int) -> Tensor:
    """A table (S,A) of zeros for a TokenAutomaton. Raises UserError where it would take more than 1 GiB."""
    if num_states * num_columns > MAX_CELLS:
        size = num_states * num_columns * 4 / 2**30
        raise UserError(
            f"too many phrases: they have {num_states} beginnings of {num_columns} different tokens, a table of "
            f"{size:.1f} GiB where 1 is allowed; give fewer phrases"
        )
    return torch.zeros(num_states, num_columns, dtype=torch.int32)


def check_phrases(phrases: Sequence[Sequence[int]], vocab_size: int, eos_id: int) -> None:
    """Raise UserError where there are no phrases, one is empty, or one has a token that no hypothesis can hold."""
    if not phrases:
        raise UserError("no phrases: give at least one")
    for number, tokens in enumerate(phrases, start=1):
        if not tokens:
            raise UserError(f"phrase {number} is empty: expected at least one token")
        check_tokens(tokens, vocab_size, eos_id, f"phrase {number}")


def check_tokens(tokens: Sequence[int], vocab_size: int, eos_id: int, name: str) -> None:
    """Raise UserError for an id outside [0, V) or eos; `name` says whose tokens they are."""
    for token in tokens:
        if not 0 <= token < vocab_size or token == eos_id:
            raise UserError(
                f"{name} has token {token}: expected ids from 0 to {vocab_size - 1} but eos, {eos_id}; encode it with "
                "the tokenizer of the model"
            )


def read_phrases(
    path: str | os.PathLike[str], tokenizer: Tokenizer, default_boost: float = 1.0
) -> list[tuple[list[int], float]]:
    """The tokens and boosts of a UTF-8 file with one phrase a line, optionally followed by a tab and its boost.

    The tokens are those that a model writes for the phrase as whole words: of Whisper's, the first begins with a space.
    Raises UserError, with file and line, for an empty phrase, one that comes twice, characters that the tokenizer
    lacks, and a boost that is not a finite number; with the file where it has no lines.
    """
    phrases: list[tuple[list[int], float]] = []
    first_seen: dict[str, int] = {}
    begin = " " if isinstance(tokenizer, WhisperTokenizer) else ""  # the others put it there themselves
    for number, line in numbered_lines(path):
        where = f"{path}:{number}"
        text, *boosts = line.split("\t")
        phrase = normalise(text)
        if not phrase or len(boosts) > 1:
            raise UserError(f"{where}: expected a phrase, or a phrase, a tab and its boost, not '{line}'")
        if phrase in first_seen:
            raise UserError(f"{where}: phrase '{phrase}' is already on line {first_seen[phrase]}: keep one of them")
        first_seen[phrase] = number
        tokens = tokenizer.encode(begin + phrase)
        if tokenizer.unk_id in tokens:
            unknown = sorted({c for c in phrase if tokenizer.unk_id in tokenizer.encode(c)})
            raise UserError(
                f"{where}: phrase '{phrase}' has characters that the tokenizer lacks ({' '.join(unknown)}): write it "
                "as the training text would, or leave it out"
            )
        phrases.append((tokens, _boost(boosts[0], where) if boosts else default_boost))
    if not phrases:
        raise UserError(f"{path}: no phrases: expected one a line")
    return phrases


def _boost(text: str, where: str) -> float:
    try:
        boost = float(text)
    except ValueError:
        boost = math.nan
    if not math.isfinite(boost):
        raise UserError(f"{where}: boost '{text}' is not a number: expected one such as 2.5 after the tab")
    return boost
