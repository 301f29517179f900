"""CTC prefix beam search, carried from piece to piece."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from s2s.decoding.ctc_beam import CTCPrefixBeamSearch, PrefixBeam
from s2s.decoding.hypothesis import Hypothesis
from s2s.decoding.streaming.partial import Partial
from s2s.models.memory import Memory


class StreamingCTCPrefixSearch:
    """What a `CTCPrefixBeamSearch` finds, piece by piece, with the frames of the tokens.

    Stable are the tokens that all prefixes in the beam begin with: what is to come grows out of these prefixes. Frames
    are those of the best alignment of which every prefix was in the beam (see `BeamAlignments`). A state grows by a few
    numbers for each frame and prefix.
    """

    def __init__(self, search: CTCPrefixBeamSearch) -> None:
        self.search = search

    @torch.inference_mode()
    def start(self, size: int, like: Memory) -> PrefixBeam:
        """State of B = `size` utterances of which nothing is known yet."""
        return self.search.start(size, like, with_frames=True)

    @torch.inference_mode()
    def step(self, memory: Memory, state: PrefixBeam) -> PrefixBeam:
        """The state, advanced in place by new frames (B,T,D), lengths (B,). Raises UserError where they give NaN."""
        self.search.step(memory, state)
        return state

    @torch.inference_mode()
    def partials(self, state: PrefixBeam) -> list[Partial]:
        """The best prefix of each utterance; its score is without eos."""
        pairs = zip(self.search.unfinished(state), state.heard.tolist(), strict=True)
        return [Partial(hypothesis, num_stable, heard) for (hypothesis, num_stable), heard in pairs]

    @torch.inference_mode()
    def finish(self, state: PrefixBeam) -> list[list[Hypothesis]]:
        """The n best hypotheses of each utterance."""
        return self.search.finish(state)

    @torch.inference_mode()
    def rows(self, state: PrefixBeam, utterances: Sequence[int]) -> PrefixBeam:
        """The state of some of the utterances, in that order."""
        return state.rows(utterances)

    @torch.inference_mode()
    def join(self, states: Sequence[PrefixBeam]) -> PrefixBeam:
        """The utterances of several states, one after the other."""
        return PrefixBeam.joined(states)
