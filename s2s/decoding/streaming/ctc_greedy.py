"""The best path of a CTC output, carried from piece to piece."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

import torch

from s2s.decoding.hypothesis import NOT_A_NUMBER, Hypothesis, UtteranceError
from s2s.decoding.streaming.partial import Partial
from s2s.models.ctc import CTC
from s2s.models.memory import Memory
from s2s.nn.lengths import valid_mask


@dataclass
class BestPath:
    """That of the frames of an utterance so far."""

    last: int  # label of the last frame, the blank before the first
    score: float = 0.0
    heard: int = 0
    tokens: list[int] = field(default_factory=list)
    frames: list[tuple[int, int]] = field(default_factory=list)

    @property
    def hypothesis(self) -> Hypothesis:
        return Hypothesis(list(self.tokens), self.score, {"ctc": self.score}, list(self.frames))

    def copy(self) -> BestPath:
        return replace(self, tokens=list(self.tokens), frames=list(self.frames))


class StreamingCTCGreedySearch:
    """The best path of a CTC output (Graves et al. 2006, eq. 4); its score is that of the path, not of all paths.

    All tokens are stable. A token's frames are those of its label in the path. Raises UtteranceError in `step` for
    an output that is not a number.
    """

    def __init__(self, ctc: CTC) -> None:
        self.ctc = ctc

    def start(self, size: int, like: Memory) -> list[BestPath]:
        """State of B = `size` utterances of which nothing is known yet."""
        return [BestPath(self.ctc.blank_id) for _ in range(size)]

    @torch.inference_mode()
    def step(self, memory: Memory, state: list[BestPath]) -> list[BestPath]:
        """The state, advanced in place by new frames (B,T,D), lengths (B,)."""
        best, labels = self.ctc(memory).max(dim=-1)  # (B,T)
        scores = best.double().masked_fill(~valid_mask(memory.lengths, best.size(1)), 0.0).sum(dim=1).tolist()
        for b, score in enumerate(scores):
            if math.isnan(score):
                raise UtteranceError(b, NOT_A_NUMBER)
        for path, score, own, length in zip(state, scores, labels.tolist(), memory.lengths.tolist(), strict=True):
            path.score += score
            self._go_on(path, own[:length])
        return state

    def _go_on(self, path: BestPath, labels: list[int]) -> None:
        """The labels of the next frames."""
        for label, run in groupby(labels):
            start = path.heard
            path.heard += len(list(run))
            if label != path.last:
                if label != self.ctc.blank_id:
                    path.tokens.append(label)
                    path.frames.append((start, path.heard))
            elif label != self.ctc.blank_id:
                path.frames[-1] = (path.frames[-1][0], path.heard)
            path.last = label

    def partials(self, state: list[BestPath]) -> list[Partial]:
        """The path of each utterance so far."""
        return [Partial(path.hypothesis, len(path.tokens), path.heard) for path in state]

    def finish(self, state: list[BestPath]) -> list[list[Hypothesis]]:
        """The path of each utterance."""
        return [[path.hypothesis] for path in state]

    def rows(self, state: list[BestPath], utterances: Sequence[int]) -> list[BestPath]:
        """The state of some of the utterances, in that order."""
        return [state[b].copy() for b in utterances]

    def join(self, states: Sequence[list[BestPath]]) -> list[BestPath]:
        """The utterances of several states, one after the other."""
        return [path.copy() for state in states for path in state]
