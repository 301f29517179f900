"""Streams of models whose heads stop in what they hear, and so need nothing that comes after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch

from s2s.decoding.engine import LabelSearch
from s2s.decoding.hypothesis import Hypothesis, UtteranceError
from s2s.decoding.streaming.align_att import AlignAtt
from s2s.decoding.streaming.attention import LastStop
from s2s.decoding.streaming.heard import heard_more, nothing_heard
from s2s.decoding.streaming.partial import Partial
from s2s.decoding.streaming.simultaneous import Progress, SimultaneousSearch
from s2s.models.memory import AttentionDecoder, Memory


@dataclass(frozen=True)
class Monotonic(AlignAtt):
    """Commits to the tokens before the first for which some head has not stopped before the last frame, or the last f.

    That is when a decoder with monotonic attention writes (Ma et al. 2020, arXiv:1909.12406): when all heads of all
    layers have stopped. At the last frame they all stop, wherever they wanted to, so that tokens from there on are
    hardly guesses. Raises UserError for f below 1.
    """

    frames: int = 1
    shows_guesses = False


@dataclass(frozen=True)
class MonotonicProgress:
    """What is known of an utterance, and what was said of it."""

    heard: Memory
    progress: Progress = field(default_factory=lambda: Progress(None))
    partial: Partial = field(default_factory=lambda: Partial(Hypothesis([], 0.0, frames=[]), 0, 0))


class MonotonicSearch:
    """Search with a decoder whose heads stop, over a stream: it commits to a token as soon as all heads have stopped.

    What they saw is all that the token was made of, so with one hypothesis (greedy) it is the one that `search` finds
    when it knows the whole; of several, the best at that time. The frame of a token is the one where the last head
    stopped. The memory of the utterance is kept, and every piece costs a search from what is committed on.

    Raises UserError where no head of the decoder stops.
    """

    def __init__(self, search: LabelSearch, decoder: AttentionDecoder) -> None:
        self.search = SimultaneousSearch(search, Monotonic(), LastStop(decoder))

    def start(self, size: int, like: Memory) -> list[MonotonicProgress]:
        """State of B = `size` utterances of which nothing is known yet."""
        return [MonotonicProgress(memory) for memory in nothing_heard(size, like)]

    @torch.inference_mode()
    def step(self, memory: Memory, state: list[MonotonicProgress]) -> list[MonotonicProgress]:
        """The state when new frames (B,T,D), lengths (B,) were heard. Raises UtteranceError as the search does."""
        kept = heard_more([each.heard for each in state], memory)
        more = [b for b, length in enumerate(memory.lengths.tolist()) if length]
        state = [replace(each, heard=heard) for each, heard in zip(state, kept, strict=True)]
        return self._searched(state, more, ended=False)

    def _searched(self, state: list[MonotonicProgress], utterances: list[int], ended: bool) -> list[MonotonicProgress]:
        """The state after another search for some of the utterances."""
        if not utterances:
            return state
        state = [replace(each, progress=replace(each.progress)) for each in state]  # which the search changes
        memory = Memory.joined([state[b].heard for b in utterances])
        try:
            progress = [state[b].progress for b in utterances]
            partials = self.search.step(memory, progress, [ended] * len(utterances))
        except UtteranceError as error:
            raise UtteranceError(utterances[error.utterance], error.problem) from error
        for b, partial in zip(utterances, partials, strict=True):
            state[b] = replace(state[b], partial=partial)
        return state

    def partials(self, state: list[MonotonicProgress]) -> list[Partial]:
        """The best hypothesis of each utterance so far; stable is what is committed to."""
        return [each.partial for each in state]

    @torch.inference_mode()
    def finish(self, state: list[MonotonicProgress]) -> list[list[Hypothesis]]:
        """The best hypothesis of each utterance; of one without frames, the empty one."""
        some = [b for b, each in enumerate(state) if int(each.heard.lengths)]
        return [[each.partial.hypothesis] for each in self._searched(state, some, ended=True)]

    def rows(self, state: list[MonotonicProgress], utterances: Sequence[int]) -> list[MonotonicProgress]:
        """The state of some of the utterances, in that order."""
        return [state[b] for b in utterances]

    def join(self, states: Sequence[list[MonotonicProgress]]) -> list[MonotonicProgress]:
        """The utterances of several states, one after the other."""
        return [each for state in states for each in state]
