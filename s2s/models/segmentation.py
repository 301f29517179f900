"""Segmentations of utterances whose labels are given: the probability of one, the best one, and the sum over all."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from s2s.models.memory import Memory
from s2s.models.segmental_decoder import SegmentalDecoder
from s2s.nn.lengths import valid_mask

NEVER = float("-inf")
ROWS = 8192  # segments whose labels are predicted at once


def fitted(ends: Tensor, target_lengths: Tensor, lengths: Tensor) -> Tensor:
    """`ends` (B,U) of segments moved as little as need be for each of them to have a frame, and all a place.

    Those of padding are moved behind all frames. An utterance with fewer frames than labels has no such segments.
    """
    number = torch.arange(ends.size(1), device=ends.device)
    # The u-th label, from 0, ends after frame u or later, and leaves a frame to each label after it.
    latest = lengths.unsqueeze(1) - (target_lengths.unsqueeze(1) - 1 - number)
    ends = torch.minimum(torch.maximum(ends, number + 1), latest)
    ends = torch.minimum((ends - number).cummax(dim=1).values + number, latest)
    return torch.where(valid_mask(target_lengths, ends.size(1)), ends, lengths.max() + 1)


def length_log_prob(odds: Tensor, ends: Tensor, lengths: Tensor) -> Tensor:
    """What the length model says (B,) of segments that end before `ends` (B,U), by its log-odds (B,T), lengths (B,)."""
    is_end = (ends.unsqueeze(2) == torch.arange(1, odds.size(1) + 1, device=ends.device)).any(dim=1)  # (B,T)
    log_probs = F.logsigmoid(torch.where(is_end, odds, -odds))
    return log_probs.masked_fill(~valid_mask(lengths, odds.size(1)), 0.0).sum(dim=1)


def log_prob(decoder: SegmentalDecoder, memory: Memory, tokens: Tensor, target_lengths: Tensor, ends: Tensor) -> Tensor:
    """log P(labels, segments) (B,) of tokens (B,1+U) from bos on, lengths (B,) without it, and `ends` (B,U)."""
    counted = valid_mask(target_lengths, ends.size(1))
    ends = torch.where(counted, ends, memory.lengths.max() + 1)
    log_probs, odds = decoder(memory, tokens, ends)
    labels = log_probs.gather(2, tokens[:, 1:].unsqueeze(2)).squeeze(2).masked_fill(~counted, 0.0).sum(dim=1)
    return labels + length_log_prob(odds, ends, memory.lengths)


class Segmentation(NamedTuple):
    """The best segments of B utterances with given labels."""

    ends: Tensor  # (B,U) the frame after each segment, 0 for padding
    log_prob: Tensor  # (B,) log P(labels, segments), -inf where there are more labels than frames


@torch.no_grad()
def best_segmentation(
    decoder: SegmentalDecoder, memory: Memory, tokens: Tensor, target_lengths: Tensor
) -> Segmentation:
    """The most probable segments of tokens (B,1+U) from bos on, lengths (B,) without it.

    Exact (Viterbi over segments, in float64), since what a segment scores depends on nothing but its labels so far, its
    start and its end.
    """
    lattice = _Lattice(decoder, memory, tokens)
    reached, origins = [lattice.nothing], []
    for u in range(tokens.size(1) - 1):
        step = lattice.step(u, reached[-1])
        open_, opened = step.open.cummax(dim=1)
        scores = torch.cat((step.near, (step.far + step.before(open_)).unsqueeze(2)), dim=2)
        best, length = scores.max(dim=2)  # (B,T), the length less one
        start = torch.arange(best.size(1), device=best.device) - length
        origins.append(torch.where(length == step.near.size(2), step.before(opened, 0), start))
        reached.append(step.ended(best))
    totals, end = lattice.finished(reached, target_lengths).max(dim=1)  # (B,)
    ends = tokens.new_zeros(len(tokens), len(origins))
    for u in reversed(range(len(origins))):
        here = u < target_lengths
        ends[:, u] = torch.where(here, end, 0)
        start = origins[u].gather(1, (end - 1).clamp(min=0).unsqueeze(1)).squeeze(1)
        end = torch.where(here, start, end)
    return Segmentation(ends, totals)


@torch.no_grad()
def total_log_prob(decoder: SegmentalDecoder, memory: Memory, tokens: Tensor, target_lengths: Tensor) -> Tensor:
    """log P(labels) (B,) of tokens (B,1+U) from bos on, lengths (B,) without it: the sum over all segmentations."""
    lattice = _Lattice(decoder, memory, tokens)
    reached = [lattice.nothing]
    for u in range(tokens.size(1) - 1):
        step = lattice.step(u, reached[-1])
        far = step.far + step.before(step.open.logcumsumexp(dim=1))
        reached.append(step.ended(torch.cat((step.near, far.unsqueeze(2)), dim=2).logsumexp(dim=2)))
    return lattice.finished(reached, target_lengths).logsumexp(dim=1)


class _Step(NamedTuple):
    """All that the next segment may be, of B utterances: it ends with one of T frames, and begins with it or before."""

    near: Tensor  # (B,T,A) scores of segments of 1 to A frames with all before them, but for `end`
    far: Tensor  # (B,T) of the label of a longer one
    open: Tensor  # (B,T+1) of what is before a segment that starts there
    end: Tensor  # (B,T) of the frames of a segment that ends there, but for those before its start, which `open` lacks

    def before(self, open_: Tensor, none: float = NEVER) -> Tensor:
        """Something of every start (B,T+1) -> that of the last start of a segment of more than A frames (B,T)."""
        return F.pad(open_, (self.near.size(2) + 1, 0), value=none)[:, 1 : 1 + self.far.size(1)]

    def ended(self, scores: Tensor) -> Tensor:
        """Scores (B,T) of segments by their last frame -> of what is before the next one, by its start (B,T+1)."""
        return F.pad(scores + self.end, (1, 0), value=NEVER)


class _Lattice:
    """All segmentations of utterances whose tokens (B,1+U), from bos on, are given."""

    def __init__(self, decoder: SegmentalDecoder, memory: Memory, tokens: Tensor) -> None:
        self.decoder, self.memory, self.tokens = decoder, memory, tokens
        self.states, _ = decoder.read(tokens, decoder.no_labels(len(tokens)))
        self.frames, self.kept = decoder.frames(memory.states)
        self.valid = valid_mask(memory.lengths, self.frames.size(1))
        before, after = decoder.segments.before, decoder.segments.after
        if before is not None and after is not None:
            self.kept = tuple(
                tuple(F.pad(each, (0, 0, before, after)).unfold(2, before + 1 + after, 1) for each in cached)
                for cached in self.kept
            )  # (B,H',T,d',W)

    @property
    def nothing(self) -> Tensor:
        """Scores (B,T+1) of no label before a segment that starts there."""
        scores = self.frames.new_full((len(self.valid), self.valid.size(1) + 1), NEVER, dtype=torch.float64)
        scores[:, 0] = 0.0
        return scores

    def step(self, u: int, reached: Tensor) -> _Step:
        """The segment of label u, from 0, given the scores (B,T+1) of those before it, by the frame after them."""
        odds = self.odds(self.states[:, u])
        # The frames before one, were they all of this segment and it did not end.
        passed = F.pad(F.logsigmoid(-odds).cumsum(dim=1), (1, 0))  # (B,T+1)
        labels = self.labels(u)  # (B,T,A)
        open_, size = reached - passed, labels.size(2)
        starts = F.pad(open_, (size, 0), value=NEVER).unfold(1, size, 1)[:, 1:-1]  # (B,T,A) the longest first
        end = (passed[:, :-1] + F.logsigmoid(odds)).masked_fill(~self.valid, NEVER)
        return _Step(starts.flip(2) + labels, labels[:, :, -1], open_, end)

    def finished(self, reached: list[Tensor], target_lengths: Tensor) -> Tensor:
        """Scores (B,T+1) of utterances with all their labels, by the frame after the last one, given those of each."""
        rows = torch.arange(len(target_lengths), device=target_lengths.device)
        left = F.logsigmoid(-self.odds(self.states[rows, target_lengths])).masked_fill(~self.valid, 0.0)
        blank = F.pad(left.flip(1).cumsum(dim=1).flip(1), (0, 1))
        return torch.stack(reached)[target_lengths, rows] + blank

    def odds(self, states: Tensor) -> Tensor:
        """Label states (B,D) -> log-odds (B,T) that their segment ends at a frame."""
        return self.decoder.length(self.frames, self.decoder.length.labels(states).unsqueeze(1)).double()

    def labels(self, u: int) -> Tensor:
        """Log-probabilities of label u in segments by their last frame and their length less one, (B,T,A)."""
        (size, num_frames), segments = self.valid.shape, self.decoder.segments
        state, token = self.states[:, u, None], self.tokens[:, u + 1]
        if segments.before is None:
            log_probs = self.decoder.predict(state, self.kept, self.valid.unsqueeze(1))[0]
            return log_probs.gather(2, token[:, None, None]).double().expand(-1, num_frames, -1)
        lengths = torch.arange(1, segments.num_lengths + 1, device=state.device)
        found = []
        block = max(1, ROWS // (size * len(lengths)))
        for ends in torch.arange(1, num_frames + 1, device=state.device).split(block):
            seen = ends.unsqueeze(1) - 1 + torch.arange(-segments.before, segments.right + 1, device=state.device)
            shown = segments.shown(ends.unsqueeze(1) - lengths, ends.unsqueeze(1), seen)  # (n,A,W)
            there = (seen >= 0) & (seen < self.memory.lengths[:, None, None])  # (B,n,W)
            shown = (shown & there.unsqueeze(2)).flatten(0, 1)
            shown = shown | ~shown.any(dim=-1, keepdim=True)
            kept = tuple(
                tuple(each[:, :, ends - 1].permute(0, 2, 1, 4, 3).flatten(0, 1) for each in cached)
                for cached in self.kept
            )  # (B*n,H',W,d')
            rows = state.unsqueeze(1).expand(-1, len(ends), len(lengths), -1).flatten(0, 1)
            log_probs = self.decoder.predict(rows, kept, shown)[0].unflatten(0, (size, -1))  # (B,n,A,V)
            found.append(
                log_probs.gather(3, token[:, None, None, None].expand(-1, *log_probs.shape[1:3], 1)).squeeze(3)
            )
        return torch.cat(found, dim=1).double()
