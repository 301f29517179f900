"""The contract of searches that hear an utterance piece by piece."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from s2s.decoding.hypothesis import Hypothesis
from s2s.models.memory import Memory

State = TypeVar("State")


@dataclass(frozen=True)
class Partial:
    """What a search makes of an utterance of which `heard` frames are known so far.

    The first `num_stable` of the hypothesis' tokens are those of whatever it will make of the whole.
    """

    hypothesis: Hypothesis
    num_stable: int
    heard: int


class StreamingSearch(Protocol[State]):
    """Anything that turns the memories of B utterances, piece by piece, into hypotheses; it keeps no state itself."""

    def start(self, size: int, like: Memory) -> State:
        """State of B = `size` utterances of which nothing is known yet, on the device of `like`."""
        ...

    def step(self, memory: Memory, state: State) -> State:
        """The state when new frames are known too, states (B,T,D), lengths (B,), none or more of each utterance."""
        ...

    def partials(self, state: State) -> list[Partial]:
        """The best hypothesis of each utterance so far."""
        ...

    def finish(self, state: State) -> list[list[Hypothesis]]:
        """The hypotheses of each utterance, best first, now that no frames are to come."""
        ...

    def rows(self, state: State, utterances: Sequence[int]) -> State:
        """The state of some of the utterances, in that order."""
        ...

    def join(self, states: Sequence[State]) -> State:
        """The utterances of several states, one after the other."""
        ...
