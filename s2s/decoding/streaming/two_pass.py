"""Two passes over a stream: a first search while it is heard, attention rescoring when it has ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from s2s.decoding.hypothesis import Hypothesis, UtteranceError
from s2s.decoding.rescoring import RescoringSearch
from s2s.decoding.streaming.heard import heard_more, nothing_heard
from s2s.decoding.streaming.partial import Partial, StreamingSearch
from s2s.models.memory import Memory


@dataclass
class TwoPassState:
    """The state of the first search, and the memory of each utterance so far."""

    first: Any
    heard: list[Memory]


class TwoPassSearch:
    """Partials of a `first` search; at the end its n best are ranked anew by decoders that see the whole utterance.

    That is how U2 decodes (Zhang et al. 2020, arXiv:2012.05481) and, where `rescoring` has a right-to-left decoder too,
    U2++ (Wu et al. 2021, arXiv:2106.05642). `rescoring` is given what `first` finds in place of what its own first
    search would. Stable is what all that `first` may still find has in common, as in `StreamingCTCPrefixSearch`.
    """

    def __init__(self, first: StreamingSearch[Any], rescoring: RescoringSearch) -> None:
        self.first, self.rescoring = first, rescoring

    @torch.inference_mode()
    def start(self, size: int, like: Memory) -> TwoPassState:
        """State of B = `size` utterances of which nothing is known yet."""
        return TwoPassState(self.first.start(size, like), nothing_heard(size, like))

    @torch.inference_mode()
    def step(self, memory: Memory, state: TwoPassState) -> TwoPassState:
        """The state, advanced in place by new frames (B,T,D), lengths (B,)."""
        return TwoPassState(self.first.step(memory, state.first), heard_more(state.heard, memory))

    def partials(self, state: TwoPassState) -> list[Partial]:
        """Those of the first search."""
        return self.first.partials(state.first)

    @torch.inference_mode()
    def finish(self, state: TwoPassState) -> list[list[Hypothesis]]:
        """The n best hypotheses of each utterance, rescored; of one without frames there is nothing to rescore."""
        lists = self.first.finish(state.first)
        some = [b for b, memory in enumerate(state.heard) if int(memory.lengths)]
        if not some:
            return lists
        memory = Memory.joined([state.heard[b] for b in some])
        try:
            rescored = self.rescoring.rescored(memory, [lists[b] for b in some])
        except UtteranceError as error:
            raise UtteranceError(some[error.utterance], error.problem) from error
        for b, hypotheses in zip(some, rescored, strict=True):
            lists[b] = hypotheses
        return lists

    @torch.inference_mode()
    def rows(self, state: TwoPassState, utterances: Sequence[int]) -> TwoPassState:
        """The state of some of the utterances, in that order."""
        return TwoPassState(self.first.rows(state.first, utterances), [state.heard[b] for b in utterances])

    @torch.inference_mode()
    def join(self, states: Sequence[TwoPassState]) -> TwoPassState:
        """The utterances of several states, one after the other."""
        heard = [memory for state in states for memory in state.heard]
        return TwoPassState(self.first.join([state.first for state in states]), heard)
