"""What an encoder gives a decoder, and the contracts of both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeVar

from torch import Tensor


@dataclass(frozen=True)
class Memory:
    """Encoder states (B,T,D) and how many of the T frames are real, lengths (B,)."""

    states: Tensor
    lengths: Tensor


class Encoder(Protocol):
    """Anything that turns source frames into a memory."""

    model_dim: int

    def __call__(self, source: Tensor, lengths: Tensor) -> Memory:
        """source (B,S,F), lengths (B,) -> Memory"""
        ...

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """How many memory frames (B,) come of `lengths` source frames (B,)."""
        ...


State = TypeVar("State")


class Decoder(Protocol[State]):
    """Anything that predicts the next token from a memory and the tokens so far.

    `forward` and repeated `step` give the same numbers.
    """

    vocab_size: int

    def __call__(self, memory: Memory, tokens: Tensor) -> Tensor:
        """Memory of B utterances, tokens (B,U) from bos on -> log-probabilities (B,U,V) of each next token."""
        ...

    def start(self, memory: Memory, beam_size: int, max_length: int) -> State:
        """State of N = B * beam_size rows, the hypotheses of one utterance adjacent, for at most `max_length` steps."""
        ...

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Last tokens (N,) -> log-probabilities (N,V) of the next, and the state advanced in place."""
        ...

    def select(self, state: State, parents: Tensor) -> State:
        """Make row n continue from row `parents[n]` (N,), a row of the same utterance."""
        ...
