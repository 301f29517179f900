"""Search with a segmental model, carried from piece to piece."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from s2s.decoding.hypothesis import Hypothesis
from s2s.decoding.segmental import SegmentalSearch
from s2s.decoding.segmental_beam import SegmentalBeam
from s2s.decoding.streaming.partial import Partial
from s2s.models.memory import Memory


class StreamingSegmentalSearch:
    """What a `SegmentalSearch` finds, piece by piece.

    Stable are the labels that all hypotheses in the beam begin with, whatever their segments: what is to come grows out
    of these. A label comes as soon as its segment has ended, and the frames behind it that it sees are heard.
    """

    def __init__(self, search: SegmentalSearch) -> None:
        self.search = search

    @torch.inference_mode()
    def start(self, size: int, like: Memory) -> SegmentalBeam:
        """State of B = `size` utterances of which nothing is known yet."""
        return self.search.start(size, like)

    @torch.inference_mode()
    def step(self, memory: Memory, state: SegmentalBeam) -> SegmentalBeam:
        """The state when new frames (B,T,D), lengths (B,), are known. Raises UtteranceError where they give NaN."""
        return self.search.step(memory, state)

    @torch.inference_mode()
    def partials(self, state: SegmentalBeam) -> list[Partial]:
        """The best hypothesis of each utterance so far; in its score the segment at hand has no label."""
        heard = (state.decided + state.decided.new_tensor(list(map(len, state.pending)))).tolist()
        return [
            Partial(hypothesis, num_stable, n)
            for (hypothesis, num_stable), n in zip(self.search.unfinished(state), heard, strict=True)
        ]

    @torch.inference_mode()
    def finish(self, state: SegmentalBeam) -> list[list[Hypothesis]]:
        """The n best hypotheses of each utterance."""
        return self.search.finish(state)

    @torch.inference_mode()
    def rows(self, state: SegmentalBeam, utterances: Sequence[int]) -> SegmentalBeam:
        """The state of some of the utterances, in that order."""
        return state.rows(utterances)

    @torch.inference_mode()
    def join(self, states: Sequence[SegmentalBeam]) -> SegmentalBeam:
        """The utterances of several states, one after the other."""
        return SegmentalBeam.joined(states)
