"""Local agreement: what several hypotheses in a row have in common."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile

from s2s.decoding.streaming.policy import Proposal, check_least
from s2s.decoding.streaming.words import whole_words

Said = tuple[tuple[int, bool], ...]  # the tokens of a hypothesis, and which of them begin words


@dataclass(frozen=True)
class LocalAgreement:
    """Commits to the longest common prefix of the last n hypotheses, so to nothing before there are n.

    Liu, Spanakis and Niehues 2020, "Low-latency sequence-to-sequence speech recognition and translation by partial
    hypothesis selection", arXiv:2005.11185; they take n=2. Of words, those that are whole in all n hypotheses. Raises
    UserError for n below 2.
    """

    n: int = 2
    needs_attention = False
    shows_guesses = True

    def __post_init__(self) -> None:
        check_least("n", self.n, 2)

    def start(self) -> tuple[Said, ...]:
        """The last n-1 hypotheses, or as many as there were."""
        return ()

    def commit(self, proposal: Proposal, state: tuple[Said, ...]) -> tuple[int, tuple[Said, ...]]:
        last = (*state, tuple(zip(proposal.tokens, proposal.begins, strict=True)))
        if len(last) < self.n:
            return 0, last
        count = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, zip(*last, strict=False)))
        # A hypothesis that goes on may be within a word where another one ends.
        count = min(whole_words(count, [begins for _, begins in said]) for said in last)
        return count, last[1:]
