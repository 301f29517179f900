"""Tokens that hypotheses must begin with, read by scorers before a search goes on from them."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from s2s.decoding.scorers import CandidateScorer, Scorer


@runtime_checkable
class PrefixReader(Protocol):
    """A scorer that reads what all hypotheses of an utterance begin with at once, not a token after the other."""

    def read_prefix(self, tokens: Tensor, lengths: Tensor, state: Any) -> Tensor | None:
        """As the function `read_prefix`; None, and the state as it was, where it can only read token by token."""
        ...


def read_prefix(
    scorer: Scorer | CandidateScorer, tokens: Tensor, lengths: Tensor, state: Any, beam_size: int
) -> Tensor:
    """Let all hypotheses of a new `state` begin with a prefix an utterance: tokens (B,P+1), bos first, lengths (B,).

    `lengths` do not count bos. Returns the sum (B,) of the scores of the prefix; the last of its tokens, bos where it
    has none, is what `score` must be given next.
    """
    if isinstance(scorer, PrefixReader):
        found = scorer.read_prefix(tokens, lengths, state)
        if found is not None:
            return found
    total = torch.zeros(len(lengths), dtype=torch.float64, device=lengths.device)
    for u in range(tokens.size(1) - 1):
        inside = u < lengths
        last = torch.where(inside, tokens[:, u], -1).repeat_interleave(beam_size)
        following = tokens[:, u + 1 : u + 2].repeat_interleave(beam_size, dim=0)  # (N,1)
        if isinstance(scorer, Scorer):
            gain = scorer.score(last, state).gather(1, following)
        else:
            gain = scorer.score_candidates(last, following, state)
        total = total + gain[::beam_size, 0].masked_fill(~inside, 0.0)
    return total
