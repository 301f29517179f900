"""CTC prefix scores in closed form: every utterance, hypothesis and candidate at once, no loop over frames."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from s2s.models.ctc import CTC
from s2s.models.memory import Memory
from s2s.nn.lengths import valid_mask

NEVER = float("-inf")


@dataclass
class CTCPrefixState:
    """Forward log-probabilities of each row's prefix, and of its candidates once they are scored; all float64."""

    log_probs: Tensor  # (B,T,V), zero past an utterance's end
    lengths: Tensor  # (N,)
    valid: Tensor  # (N,1,T) bool
    blank: Tensor  # (N,1,T) log-probabilities of blank
    last_tokens: Tensor  # (N,), -1 for the empty prefix
    label_ends: Tensor  # (N,T) log P(frames 0..t give the prefix, the last one a label)
    blank_ends: Tensor  # (N,T) the same, the last one blank
    prefix_scores: Tensor  # (N,) log P(the labels begin with the prefix)
    candidates: Tensor | None = None  # (N,C)
    candidate_label_ends: Tensor | None = None  # (N,C,T)
    candidate_blank_ends: Tensor | None = None  # (N,C,T)
    candidate_scores: Tensor | None = None  # (N,C)


def _before(x: Tensor, first: float | Tensor) -> Tensor:
    """x (...,T) a frame earlier: entry t holds x[t-1], entry 0 holds `first`."""
    shifted = torch.roll(x, 1, dims=-1)
    shifted[..., 0] = first
    return shifted


def _recurrence(source: Tensor, emission: Tensor) -> Tensor:
    """Solve a[t] = logaddexp(a[t-1], source[t]) + emission[t] along the last dimension, a[-1] = -inf.

    With E = cumsum(emission), a - E is a running log-sum of source[t] - E[t-1].
    """
    total = emission.cumsum(dim=-1)
    return total + torch.logcumsumexp(source - _before(total, 0.0), dim=-1)


class CTCPrefixScorer:
    """log P(labels begin with prefix + token) - log P(labels begin with prefix); for eos, that they end there.

    The recurrences are those of Watanabe et al. 2017 ("Hybrid CTC/attention", algorithm 2), solved in closed form as two
    running log-sums, in float64 because float32 loses three digits.
    """

    max_gain = 0.0

    def __init__(self, ctc: CTC, eos_id: int) -> None:
        self.ctc = ctc
        self.eos_id = eos_id

    def start(self, memory: Memory, beam_size: int, max_length: int) -> CTCPrefixState:
        log_probs = self.ctc(memory).double()  # (B,T,V)
        valid = valid_mask(memory.lengths, log_probs.size(1))  # (B,T)
        log_probs = log_probs.masked_fill(~valid.unsqueeze(-1), 0.0)
        blank = log_probs[..., self.ctc.blank_id].repeat_interleave(beam_size, dim=0)  # (N,T)
        return CTCPrefixState(
            log_probs=log_probs,
            lengths=memory.lengths.repeat_interleave(beam_size),
            valid=valid.repeat_interleave(beam_size, dim=0).unsqueeze(1),
            blank=blank.unsqueeze(1),
            last_tokens=torch.full((blank.size(0),), -1, device=blank.device),
            label_ends=torch.full_like(blank, NEVER),
            blank_ends=blank.cumsum(dim=-1),
            prefix_scores=blank.new_zeros(blank.size(0)),
        )

    def score_candidates(self, candidates: Tensor, state: CTCPrefixState) -> Tensor:
        num_rows, num_candidates = candidates.shape
        num_utterances, num_frames, _ = state.log_probs.shape
        by_utterance = candidates.view(num_utterances, 1, -1).expand(-1, num_frames, -1)
        emission = state.log_probs.gather(2, by_utterance)  # (B,T,K*C)
        emission = emission.transpose(1, 2).reshape(num_rows, num_candidates, num_frames)

        # A label that repeats the last one starts anew only after a blank.
        repeats = (candidates == state.last_tokens.unsqueeze(1)).unsqueeze(-1)  # (N,C,1)
        both_ends = torch.logaddexp(state.label_ends, state.blank_ends).unsqueeze(1)  # (N,1,T)
        ready = torch.where(repeats, state.blank_ends.unsqueeze(1), both_ends)  # φ of the paper, (N,C,T)
        empty = torch.where(state.last_tokens < 0, 0.0, NEVER).to(emission).unsqueeze(1)  # (N,1)
        ready = _before(ready, empty)

        label_ends = _recurrence(ready, emission)
        blank_ends = _recurrence(_before(label_ends, NEVER), state.blank)
        starts = (ready + emission).masked_fill(~state.valid, NEVER)
        scores = starts.logsumexp(dim=-1)  # (N,C)

        last_frame = (state.lengths - 1).unsqueeze(1)
        ended = both_ends.squeeze(1).gather(1, last_frame)  # (N,1)
        scores = torch.where(candidates == self.eos_id, ended, scores)
        scores = scores.masked_fill(candidates == self.ctc.blank_id, NEVER)
        state.candidates, state.candidate_scores = candidates, scores
        state.candidate_label_ends, state.candidate_blank_ends = label_ends, blank_ends
        return torch.where(scores == NEVER, NEVER, scores - state.prefix_scores.unsqueeze(1))

    def select_candidates(self, state: CTCPrefixState, parents: Tensor, choices: Tensor) -> CTCPrefixState:
        assert state.candidates is not None and state.candidate_scores is not None
        assert state.candidate_label_ends is not None and state.candidate_blank_ends is not None
        state.last_tokens = state.candidates[parents, choices]
        state.prefix_scores = state.candidate_scores[parents, choices]
        state.label_ends = state.candidate_label_ends[parents, choices]
        state.blank_ends = state.candidate_blank_ends[parents, choices]
        return state
