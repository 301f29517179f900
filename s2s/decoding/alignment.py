"""Which frames the tokens and words of an utterance take: forced alignment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from s2s.decoding.hypothesis import UtteranceError
from s2s.models.ctc_alignment import Alignment, best_path
from s2s.models.hybrid import HybridModel
from s2s.models.memory import Memory
from s2s.models.segmental import SegmentalModel
from s2s.models.segmentation import best_segmentation
from s2s.nn.lengths import valid_mask
from s2s.tokenizers.base import SPACE, SPECIAL_PIECES


@dataclass(frozen=True)
class Word:
    """A word, when it was said, in seconds, and how sure the model is of it (the mean probability of its tokens)."""

    text: str
    start: float
    end: float
    confidence: float | None = None


def align(log_probs: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor, blank_id: int = 0) -> Alignment:
    """The best path of emissions (B,T,V), lengths (B,) whose labels are the targets (B,U), lengths (B,).

    As `best_path`. Raises UtteranceError where a target does not fit into its frames, holds the blank or an unknown
    token, or has no path of finite score.
    """
    _check(log_probs, lengths, targets, target_lengths, blank_id)
    found = best_path(log_probs, lengths, targets, target_lengths, blank_id)
    for b in (~(found.totals > float("-inf"))).nonzero().flatten().tolist():
        raise UtteranceError(
            b,
            "no alignment of its tokens has a finite score: the model's output is not a number, "
            "or rules a token out; check its weights and the tokens",
        )
    return found


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


def label_spans(model: HybridModel, memory: Memory, tokens: Sequence[Sequence[int]]) -> list[list[tuple[int, int]]]:
    """The first frame and the one past the last of each token of B utterances, as the model has them.

    Those of a segmental model are its best segments, without a gap between them; of any other they are `token_spans` of
    the CTC output. Raises UtteranceError as `align` does.
    """
    if not isinstance(model, SegmentalModel):
        return token_spans(model.ctc(memory), memory.lengths, tokens, model.blank_id)
    lengths = memory.lengths.new_tensor(list(map(len, tokens)))
    longest = int(lengths.max())
    rows = [[model.bos_id, *sequence, *[0] * (longest - len(sequence))] for sequence in tokens]
    found = best_segmentation(model.decoder, memory, memory.lengths.new_tensor(rows), lengths)
    for b in (~found.log_prob.isfinite()).nonzero().flatten().tolist():
        raise UtteranceError(
            b,
            f"its {len(tokens[b])} tokens have no segments in {int(memory.lengths[b])} frames, one for each at least; "
            "does the text belong to the audio?",
        )
    ends = [own[: len(sequence)] for own, sequence in zip(found.ends.tolist(), tokens, strict=True)]
    return [list(zip([0, *own], own, strict=False)) for own in ends]


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
