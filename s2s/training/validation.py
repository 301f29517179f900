"""Validation: the loss, and how far CTC's best path or the most probable next tokens are from the reference."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from s2s.data.batch import Batch
from s2s.decoding.ctc import ctc_greedy
from s2s.models.hybrid import HybridModel
from s2s.models.language_model import cross_entropy, teacher_forced
from s2s.scoring.word_errors import ErrorCounts, error_counts


@torch.no_grad()
def validate(
    model: HybridModel, batches: Iterable[Batch], to_device: Callable[[Batch], Batch] = lambda batch: batch
) -> tuple[float, float]:
    """Loss per target token and token error rate of CTC's best path over all batches, `model` in evaluation mode."""
    model.eval()
    total, weight = 0.0, 0
    counts = ErrorCounts(0, 0, 0, 0)
    for batch in batches:
        if not len(batch):
            continue
        batch = to_device(batch)
        memory = model.encode(batch.source, batch.source_lengths)
        tokens = int(batch.target_lengths.sum())
        total += float(model.loss(memory, batch.target, batch.target_lengths, batch.target_ends).total) * tokens
        weight += tokens
        found = ctc_greedy(model.ctc(memory), memory.lengths, model.blank_id)
        for target, length, labels in zip(batch.target.tolist(), batch.target_lengths.tolist(), found, strict=True):
            counts += error_counts(target[:length], labels)
    return total / max(1, weight), counts.rate


@torch.no_grad()
def validate_next_tokens(
    log_probs_of: Callable[[Batch, Tensor], Tensor], bos_id: int, eos_id: int, batches: Iterable[Batch]
) -> tuple[float, float]:
    """Loss per token, eos counted, and how many of them are not the most probable next one after the true ones.

    `log_probs_of` gives log-probabilities (B,U,V) of what follows each of the tokens (B,U) of a batch, bos first.
    """
    total, wrong, count = 0.0, 0, 0
    for batch in batches:
        tokens, labels, counted = teacher_forced(batch.target, batch.target_lengths, bos_id, eos_id)
        log_probs = log_probs_of(batch, tokens)
        size = int(counted.sum())
        total += float(cross_entropy(log_probs, labels, counted)) * size
        wrong += int(((log_probs.argmax(dim=-1) != labels) & counted).sum())
        count += size
    return total / max(1, count), wrong / max(1, count)
