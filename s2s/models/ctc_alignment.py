"""The most probable path of CTC emissions through given tokens."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from s2s.nn.lengths import valid_mask

NEVER = float("-inf")


@dataclass(frozen=True)
class Alignment:
    """The most probable alignments of B utterances, T frames and U tokens with padding."""

    labels: Tensor  # (B,T) label of each frame, the blank past an utterance's end
    scores: Tensor  # (B,T) its log-probability, 0 past the end
    starts: Tensor  # (B,U) first frame of each token, 0 for padding
    ends: Tensor  # (B,U) the frame past its last, 0 for padding
    confidences: Tensor  # (B,U) mean probability of its frames, 0 for padding
    totals: Tensor  # (B,) log-probability of the path; -inf, or not a number, where there is none and the rest is void


@torch.no_grad()
def best_path(log_probs: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor, blank_id: int) -> Alignment:
    """The best path of emissions (B,T,V), lengths (B,) whose labels are the targets (B,U), lengths (B,).

    The Viterbi algorithm, in float64, over tokens with optional blanks between them (Graves et al. 2006, section 4.1,
    the maximum in place of the sum).
    """
    size = log_probs.size(1)
    valid, token_valid = valid_mask(lengths, size), valid_mask(target_lengths, targets.size(1))
    targets = targets.masked_fill(~token_valid, blank_id)
    # States: 0 before the first frame, 2u the u-th token from 1 on, the odd ones blanks: S = 2U + 2.
    tokens = F.pad(targets, (1, 0), value=blank_id)
    labels = torch.stack((tokens, torch.full_like(tokens, blank_id)), dim=2).flatten(1)  # (B,S)
    emissions = log_probs.gather(2, labels.unsqueeze(1).expand(-1, size, -1)).double()  # (B,T,S)
    emissions[..., 0] = NEVER
    # Two states at once go on only from one token to another, past the blank between them.
    skips = emissions.new_full(labels.shape, NEVER)
    skips[:, 2::2] = torch.where(tokens[:, 1:] == tokens[:, :-1], NEVER, 0.0)

    padded = emissions.new_full((labels.size(0), labels.size(1) + 2), NEVER)
    padded[:, 2] = 0.0
    best, one, two = padded[:, 2:], padded[:, 1:-1], padded[:, :-2]  # three views: of s, s - 1 and s - 2
    moves = []  # of each frame (B,S): from how many states before, of equal scores the nearest
    for emission, here in zip(emissions.unbind(1), valid.t().unsqueeze(2), strict=True):
        skipped, nearer = two + skips, torch.maximum(best, one)
        move = (one > best).to(torch.uint8).masked_fill_(skipped > nearer, 2)
        moves.append(move.masked_fill_(~here, 0))
        best.copy_(torch.where(here, torch.maximum(nearer, skipped) + emission, best))

    last = 2 * target_lengths.unsqueeze(1) + torch.tensor([0, 1], device=labels.device)  # a token, a blank
    totals, which = best.gather(1, last).max(dim=1)
    state = last.gather(1, which.unsqueeze(1))  # (B,1)
    states = state.new_empty(len(labels), size)
    for t in reversed(range(size)):
        states[:, t] = state.squeeze(1)
        state = (state - moves[t].gather(1, state)).clamp(min=0)
    scores = emissions.gather(2, states.unsqueeze(2)).squeeze(2).masked_fill(~valid, 0.0)
    is_token = valid & (states % 2 == 0)
    tokens_of = torch.where(is_token, states // 2 - 1, targets.size(1)).clamp(min=0)
    starts, ends, confidences = _spans(tokens_of, scores, targets.size(1))
    return Alignment(
        labels=labels.gather(1, states).masked_fill(~valid, blank_id),
        scores=scores.to(log_probs.dtype),
        starts=starts,
        ends=ends,
        confidences=confidences.to(log_probs.dtype),
        totals=totals,
    )


def _spans(tokens: Tensor, scores: Tensor, num_tokens: int) -> tuple[Tensor, Tensor, Tensor]:
    """tokens (B,T): which of U each frame belongs to, U for none; scores (B,T) -> starts, ends, confidences (B,U)"""
    frames = torch.arange(tokens.size(1), device=tokens.device).expand_as(tokens)
    none = tokens.new_zeros(len(tokens), num_tokens + 1)
    starts = none.scatter_reduce(1, tokens, frames, "amin", include_self=False)
    ends = none.scatter_reduce(1, tokens, frames + 1, "amax", include_self=False)
    sums = scores.new_zeros(none.shape).scatter_add(1, tokens, scores.exp())
    confidences = sums / (ends - starts).clamp(min=1)
    return starts[:, :-1], ends[:, :-1], confidences[:, :-1]
