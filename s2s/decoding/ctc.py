"""CTC alone."""

from __future__ import annotations

from torch import Tensor

from s2s.decoding.hypothesis import Hypothesis
from s2s.decoding.streaming.ctc_greedy import StreamingCTCGreedySearch
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
    """The best path of a CTC output, all of it at once; see `StreamingCTCGreedySearch`."""

    def __init__(self, ctc: CTC) -> None:
        self.ctc = ctc

    def __call__(self, memory: Memory) -> list[list[Hypothesis]]:
        search = StreamingCTCGreedySearch(self.ctc)
        return search.finish(search.step(memory, search.start(len(memory.lengths), memory)))
