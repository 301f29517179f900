"""Hold-n: all but the end of a hypothesis."""

from __future__ import annotations

from dataclasses import dataclass

from s2s.decoding.streaming.policy import Proposal, check_least


@dataclass(frozen=True)
class HoldN:
    """Commits to all but the last n tokens of a hypothesis (Liu, Spanakis and Niehues 2020, arXiv:2005.11185).

    Raises UserError for n below 0.
    """

    n: int = 6
    needs_attention = False
    shows_guesses = True

    def __post_init__(self) -> None:
        check_least("n", self.n, 0)

    def start(self) -> None:
        return None

    def commit(self, proposal: Proposal, state: None) -> tuple[int, None]:
        return max(0, len(proposal.tokens) - self.n), None
