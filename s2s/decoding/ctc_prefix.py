"""CTC prefix scores in closed form: every utterance, hypothesis and candidate at once, no loop over frames."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from s2s.models.ctc import CTC
from s2s.models.memory import Memory
from s2s.nn.lengths import valid_mask
from s2s.nn.rows import join_rows

NEVER = float("-inf")
FLOOR = -300.0  # emissions above it: no sum that counts is too small for a float64
CHEAPER = 8  # tokens whose scores, as columns of a product, cost what one token's cost alone


@dataclass
class CTCPrefixState:
    """Forward log-probabilities of each row's prefix, in float64 as all that is summed here."""

    log_probs: Tensor  # (B,V,T) as the model gave them, zero past an utterance's end
    probs: Tensor | None  # (B,T,V) float64, zero past an utterance's end, where candidates are many
    lengths: Tensor  # (B,)
    last_tokens: Tensor  # (N,), -1 for the empty prefix
    label_ends: Tensor  # (N,T) log P(frames 0..t give the prefix, the last one a label)
    blank_ends: Tensor  # (N,T) the same, the last one blank
    prefix_scores: Tensor  # (N,) log P(the labels begin with the prefix)
    extreme: bool  # some emission is too small for sums of probabilities: sum logarithms


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


def _real(x: Tensor, state: CTCPrefixState) -> Tensor:
    """x (N,T) with -inf past each utterance's end."""
    padding = ~valid_mask(state.lengths, x.size(1)).unsqueeze(1)  # (B,1,T)
    return x.view(len(padding), -1, x.size(1)).masked_fill(padding, NEVER).flatten(0, 1)


class CTCPrefixScorer:
    """log P(labels begin with prefix + token) - log P(labels begin with prefix); for eos, that they end there.

    The recurrences are those of Watanabe et al. 2017 ("Hybrid CTC/attention", algorithm 2). A token's prefix score is
    the sum of φ[t] p[t, token] over frames t, with φ[t] the probability that the prefix is complete before frame t: for
    all tokens one product of a matrix of prefixes with the matrix of emissions. Only the token that was chosen needs
    the recurrences over frames, solved in closed form as two running log-sums.
    """

    max_gain = 0.0

    def __init__(self, ctc: CTC, bos_id: int, eos_id: int) -> None:
        self.ctc = ctc
        self.bos_id, self.eos_id = bos_id, eos_id

    def start(self, memory: Memory, beam_size: int) -> CTCPrefixState:
        log_probs = self.ctc(memory)  # (B,T,V)
        valid = valid_mask(memory.lengths, log_probs.size(1)).unsqueeze(-1)
        log_probs = log_probs.masked_fill(~valid, 0.0)
        rows = memory.lengths.size(0) * beam_size
        blank_ends = log_probs[..., self.ctc.blank_id].double().cumsum(dim=-1).repeat_interleave(beam_size, dim=0)
        return CTCPrefixState(
            log_probs=log_probs.transpose(1, 2).contiguous(),
            probs=None,
            lengths=memory.lengths,
            last_tokens=memory.lengths.new_full((rows,), -1),
            label_ends=torch.full_like(blank_ends, NEVER),
            blank_ends=blank_ends,
            prefix_scores=blank_ends.new_zeros(rows),
            extreme=bool(log_probs.min() < FLOOR),
        )

    def score_candidates(self, tokens: Tensor, candidates: Tensor, state: CTCPrefixState) -> Tensor:
        self._advance(tokens, state)
        both_ends = torch.logaddexp(state.label_ends, state.blank_ends)
        empty = torch.where(state.last_tokens < 0, 0.0, NEVER).to(both_ends)
        scores = self._label_scores(candidates, _real(_before(both_ends, empty), state), state)

        # A label that repeats the last one starts anew only after a blank.
        again = _real(_before(state.blank_ends, empty) + self._emission(state.last_tokens.clamp(min=0), state), state)
        scores = torch.where(candidates == state.last_tokens.unsqueeze(1), again.logsumexp(-1, keepdim=True), scores)

        last_frame = (state.lengths - 1).repeat_interleave(len(tokens) // len(state.lengths)).unsqueeze(1)
        scores = torch.where(candidates == self.eos_id, both_ends.gather(1, last_frame), scores)
        scores = scores.masked_fill(candidates == self.ctc.blank_id, NEVER)
        return torch.where(scores == NEVER, NEVER, scores - state.prefix_scores.unsqueeze(1))

    def _label_scores(self, candidates: Tensor, ready: Tensor, state: CTCPrefixState) -> Tensor:
        """log of the sum over t of exp(ready[t] + log_probs[t, candidate]): ready (N,T), candidates (N,C) -> (N,C)."""
        size, vocab_size, num_frames = state.log_probs.shape
        top = ready.amax(dim=-1, keepdim=True).clamp(min=torch.finfo(ready.dtype).min)  # (N,1), finite
        weights = (ready - top).exp()
        if not state.extreme and candidates.size(1) * CHEAPER >= vocab_size:
            if state.probs is None:
                valid = valid_mask(state.lengths, num_frames).unsqueeze(1)
                state.probs = state.log_probs.double().exp().masked_fill(~valid, 0.0).transpose(1, 2).contiguous()
            sums = weights.view(size, -1, num_frames) @ state.probs  # (B,K,V)
            return top + sums.flatten(0, 1).gather(1, candidates).log()
        first = torch.arange(size, device=ready.device).repeat_interleave(len(ready) // size) * vocab_size  # (N,)
        emission = state.log_probs.flatten(0, 1)[first.unsqueeze(1) + candidates].double()  # (N,C,T)
        if state.extreme:
            return (emission + ready.unsqueeze(1)).logsumexp(dim=-1)
        return top + (emission.exp() @ weights.unsqueeze(-1)).squeeze(-1).log()

    def _emission(self, tokens: Tensor, state: CTCPrefixState) -> Tensor:
        """log-probabilities (N,T) of each row's own token (N,)."""
        size, vocab_size, _ = state.log_probs.shape
        first = torch.arange(size, device=tokens.device).repeat_interleave(tokens.size(0) // size) * vocab_size
        return state.log_probs.flatten(0, 1).index_select(0, first + tokens).double()

    def _advance(self, tokens: Tensor, state: CTCPrefixState) -> None:
        """Append tokens (N,) to the prefixes; bos and -1 leave a row as it was."""
        grows = (tokens >= 0) & (tokens != self.bos_id)
        emission = self._emission(tokens.clamp(min=0), state)
        blank = self._emission(torch.full_like(tokens, self.ctc.blank_id), state)
        both_ends = torch.logaddexp(state.label_ends, state.blank_ends)
        repeats = (tokens == state.last_tokens).unsqueeze(1)
        empty = torch.where(state.last_tokens < 0, 0.0, NEVER).to(both_ends)
        ready = _before(torch.where(repeats, state.blank_ends, both_ends), empty)
        label_ends = _recurrence(ready, emission)
        blank_ends = _recurrence(_before(label_ends, NEVER), blank)
        starts = _real(ready + emission, state).logsumexp(dim=-1)
        state.label_ends = torch.where(grows.unsqueeze(1), label_ends, state.label_ends)
        state.blank_ends = torch.where(grows.unsqueeze(1), blank_ends, state.blank_ends)
        state.prefix_scores = torch.where(grows, starts, state.prefix_scores)
        state.last_tokens = torch.where(grows, tokens, state.last_tokens)

    def select(self, state: CTCPrefixState, parents: Tensor, utterances: Tensor | None = None) -> CTCPrefixState:
        for name in ("last_tokens", "label_ends", "blank_ends", "prefix_scores"):
            setattr(state, name, getattr(state, name).index_select(0, parents))
        if utterances is not None:
            state.log_probs, state.lengths = state.log_probs[utterances], state.lengths[utterances]
            state.probs = None if state.probs is None else state.probs[utterances]
        return state

    def join(self, state: CTCPrefixState, other: CTCPrefixState) -> CTCPrefixState:
        for name in ("log_probs", "lengths", "last_tokens", "label_ends", "blank_ends", "prefix_scores"):
            setattr(state, name, join_rows(getattr(state, name), getattr(other, name)))
        state.probs, state.extreme = None, state.extreme or other.extreme
        return state
