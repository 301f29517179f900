"""Which frames the tokens and words of an utterance take: forced alignment to CTC emissions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from s2s.decoding.hypothesis import UtteranceError
from s2s.nn.lengths import valid_mask
from s2s.tokenizers.base import SPACE, SPECIAL_PIECES

NEVER = float("-inf")


@dataclass(frozen=True)
class Alignment:
    """The most probable alignments of B utterances, T frames and U tokens with padding."""

    labels: Tensor  # (B,T) label of each frame, the blank past an utterance's end
    scores: Tensor  # (B,T) its log-probability, 0 past the end
    starts: Tensor  # (B,U) first frame of each token, 0 for padding
    ends: Tensor  # (B,U) the frame past its last, 0 for padding
    confidences: Tensor  # (B,U) mean probability of its frames, 0 for padding


@dataclass(frozen=True)
class Word:
    """A word, when it was said, in seconds, and how sure the model is of it (the mean probability of its tokens)."""

    text: str
    start: float
    end: float
    confidence: float | None = None


@torch.no_grad()
def align(log_probs: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor, blank_id: int = 0) -> Alignment:
    """The best path of emissions (B,T,V), lengths (B,) whose labels are the targets (B,U), lengths (B,).

    The Viterbi algorithm, in float64, over tokens with optional blanks between them (Graves et al. 2006, section 4.1,
    the maximum in place of the sum). Raises UtteranceError where a target does not fit into its
    frames, holds the blank or an unknown token, or has no path of finite score.
    """
    _check(log_probs, lengths, targets, target_lengths, blank_id)
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
    score, which = best.gather(1, last).max(dim=1)
    for b in (~(score > NEVER)).nonzero().flatten().tolist():
        raise UtteranceError(
            b,
            "no alignment of its tokens has a finite score: the model's output is not a number, "
            "or rules a token out; check its weights and the tokens",
        )
    state = last.gather(1, which.unsqueeze(1))  # (B,1)
    states = state.new_empty(len(labels), size)
    for t in reversed(range(size)):
        states[:, t] = state.squeeze(1)
        state = state - moves[t].gather(1, state)
    scores = emissions.gather(2, states.unsqueeze(2)).squeeze(2).masked_fill(~valid, 0.0)
    is_token = valid & (states % 2 == 0)
    starts, ends, confidences = _spans(torch.where(is_token, states // 2 - 1, targets.size(1)), scores, targets.size(1))
    return Alignment(
        labels=labels.gather(1, states).masked_fill(~valid, blank_id),
        scores=scores.to(log_probs.dtype),
        starts=starts,
        ends=ends,
        confidences=confidences.to(log_probs.dtype),
    )


def token_spans(
    log_probs: Tensor, lengths: Tensor, tokens: Sequence[Sequence[int]], blank_id: int = 0
) -> list[list[tuple[int, int]]]:
    """The first frame and the one past the last of each token: emissions (B,T,V), lengths (B,), B lists of tokens.

    CTC emits most labels late and for a frame or two only: the span is where the model decided, not the whole sound.
    Raises UtteranceError as `align` does.
    """
    target_lengths = torch.tensor([len(sequence) for sequence in tokens])
    targets = torch.zeros(len(tokens), int(target_lengths.max()), dtype=torch.long)
    for b, sequence in enumerate(tokens):
        targets[b, : len(sequence)] = torch.tensor(sequence, dtype=torch.long)
    device = log_probs.device
    found = align(log_probs, lengths, targets.to(device), target_lengths.to(device), blank_id)
    return [
        list(zip(starts[: len(sequence)], ends[: len(sequence)], strict=True))
        for sequence, starts, ends in zip(tokens, found.starts.tolist(), found.ends.tolist(), strict=True)
    ]


def word_times(pieces: Sequence[str], spans: Sequence[tuple[int, int]], seconds_per_frame: float) -> list[Word]:
    """The words that pieces make, from the start of a word's first piece to the end of its last one.

    ▁ begins a word, as the first character of a subword or as a piece of its own, whose frames belong to no word;
    special pieces are passed over. So the words are those of the tokenizer's decoded text. A pause after a word is not
    part of it, but neither is the rest of the last token's sound (see `token_spans`).
    """
    texts: list[str] = []
    frames: list[tuple[int, int]] = []
    within = False  # a word
    for piece, (start, end) in zip(pieces, spans, strict=True):
        if piece in SPECIAL_PIECES:
            continue
        for i, text in enumerate(piece.split(SPACE)):
            within = within and i == 0
            if text and within:
                texts[-1] += text
                frames[-1] = (frames[-1][0], end)
            elif text:
                texts.append(text)
                frames.append((start, end))
                within = True
    return [
        Word(text, start * seconds_per_frame, end * seconds_per_frame)
        for text, (start, end) in zip(texts, frames, strict=True)
    ]


def _spans(tokens: Tensor, scores: Tensor, num_tokens: int) -> tuple[Tensor, Tensor, Tensor]:
    """tokens (B,T): which of U each frame belongs to, U for none; scores (B,T) -> starts, ends, confidences (B,U)"""
    frames = torch.arange(tokens.size(1), device=tokens.device).expand_as(tokens)
    none = tokens.new_zeros(len(tokens), num_tokens + 1)
    starts = none.scatter_reduce(1, tokens, frames, "amin", include_self=False)
    ends = none.scatter_reduce(1, tokens, frames + 1, "amax", include_self=False)
    sums = scores.new_zeros(none.shape).scatter_add(1, tokens, scores.exp())
    confidences = sums / (ends - starts).clamp(min=1)
    return starts[:, :-1], ends[:, :-1], confidences[:, :-1]


def _check(log_probs: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor, blank_id: int) -> None:
    """Raise UtteranceError for the first utterance whose target cannot be aligned."""
    valid = valid_mask(target_lengths, targets.size(1))
    repeats = ((targets[:, 1:] == targets[:, :-1]) & valid[:, 1:]).sum(dim=1)  # a blank must come between
    needed = target_lengths + repeats
    for b in (needed > lengths).nonzero().flatten().tolist():
        raise UtteranceError(
            b,
            f"{int(target_lengths[b])} tokens, {int(repeats[b])} of them as the one "
            f"before, need {int(needed[b])} frames or more, there are {int(lengths[b])}: does the text belong to the "
            "audio?",
        )
    wrong = valid & ((targets == blank_id) | (targets < 0) | (targets >= log_probs.size(2)))
    for b, u in wrong.nonzero().tolist():
        raise UtteranceError(
            b,
            f"token {int(targets[b, u])} cannot be aligned: expected 0 to "
            f"{log_probs.size(2) - 1} without the blank, {blank_id}; is it of the model's own tokenizer?",
        )
