"""CTC alone."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from s2s.decoding.hypothesis import NOT_A_NUMBER, Hypothesis, UtteranceError
from s2s.models.ctc import CTC
from s2s.models.memory import Memory
from s2s.nn.lengths import valid_mask


def ctc_greedy(log_probs: Tensor, lengths: Tensor, blank_id: int = 0) -> list[list[int]]:
    """Labels of the best path: log_probs (B,T,V), lengths (B,) -> B lists (Graves et al. 2006, eq. 4)."""
    path = log_probs.argmax(dim=-1).masked_fill(~valid_mask(lengths, log_probs.size(1)), blank_id)  # (B,T)
    starts = path != blank_id
    starts[:, 1:] &= path[:, 1:] != path[:, :-1]
    return [labels[first].tolist() for labels, first in zip(path.cpu(), starts.cpu(), strict=True)]


class CTCGreedySearch:
    """The best path of a CTC output; its score is that of the path, not of all paths with its labels."""

    def __init__(self, ctc: CTC) -> None:
        self.ctc = ctc

    @torch.inference_mode()
    def __call__(self, memory: Memory) -> list[list[Hypothesis]]:
        log_probs = self.ctc(memory)
        best = log_probs.amax(dim=-1).masked_fill(~valid_mask(memory.lengths, log_probs.size(1)), 0.0)
        scores = best.sum(dim=-1).tolist()
        for b, score in enumerate(scores):
            if math.isnan(score):
                raise UtteranceError(b, NOT_A_NUMBER)
        labels = ctc_greedy(log_probs, memory.lengths, self.ctc.blank_id)
        return [[Hypothesis(tokens, score, {"ctc": score})] for tokens, score in zip(labels, scores, strict=True)]
