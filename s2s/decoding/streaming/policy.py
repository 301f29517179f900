"""The contract of simultaneous policies: how much of what a search proposes to commit to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from torch import Tensor

from s2s.errors import UserError

State = TypeVar("State")


@dataclass(frozen=True)
class Proposal:
    """The hypothesis of an utterance of which more is to come."""

    tokens: Sequence[int]  # U, the committed ones first
    begins: Sequence[bool]  # (U) which of them begin a word; all, where words do not matter
    num_committed: int
    heard: int  # T frames of source so far
    attention: Tensor | None = None  # (U',T) of the tokens that are not committed, where the policy needs it
    words: int | None = None  # of source so far, where it is text


class Policy(Protocol[State]):
    """How many tokens of a hypothesis to commit to; a policy is one for all utterances and holds nothing of them."""

    @property
    def needs_attention(self) -> bool:
        """Whether it asks where each token looked."""
        ...

    @property
    def shows_guesses(self) -> bool:
        """Whether tokens that it does not commit to are worth showing."""
        ...

    def start(self) -> State:
        """What it remembers of an utterance of which nothing was heard."""
        ...

    def commit(self, proposal: Proposal, state: State) -> tuple[int, State]:
        """How many of all the hypothesis' tokens to commit to, committed ones counted, and what to remember.

        What is committed stays so, and no word is cut, whatever the answer.
        """
        ...


def num_before(late: Sequence[bool]) -> int:
    """How many tokens come before the first of those that are `late`."""
    return next((i for i, is_late in enumerate(late) if is_late), len(late))


def check_least(key: str, value: float, least: float) -> None:
    """Raise UserError for an option of a policy that is too small."""
    if value < least:
        raise UserError(f"policy.{key}={value}: expected {least} or more")
