"""The hybrid CTC/attention model."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from s2s.errors import UserError
from s2s.models.ctc import CTC
from s2s.models.memory import Decoder, Encoder, Memory
from s2s.nn.lengths import valid_mask


class HybridLoss(NamedTuple):
    """Losses of one batch, in nats per target token (eos counted for attention), for logging and descent."""

    total: Tensor
    ctc: Tensor
    attention: Tensor


class HybridModel(nn.Module):
    """One encoder under a CTC output and an attention decoder (Watanabe et al. 2017, "Hybrid CTC/attention").

    `normalise`, `encoder` and `decoder` are modules; `ctc_weight` is λ in λ L_ctc + (1-λ) L_attention.
    """

    def __init__(
        self,
        vocab_size: int,
        normalise: nn.Module,
        encoder: nn.Module,
        decoder: nn.Module,
        ctc_weight: float = 0.3,
        label_smoothing: float = 0.1,
        blank_id: int = 0,
        bos_id: int = 2,
        eos_id: int = 3,
    ) -> None:
        super().__init__()
        if not 0.0 <= ctc_weight <= 1.0:
            raise UserError(f"ctc_weight={ctc_weight}: expected a number from 0 (attention alone) to 1 (CTC alone)")
        if not 0.0 <= label_smoothing < 1.0:
            raise UserError(f"label_smoothing={label_smoothing}: expected a number from 0 to below 1")
        self.vocab_size = vocab_size
        self.normalise = normalise
        self.encoder: Encoder = encoder  # type: ignore[assignment]
        self.decoder: Decoder = decoder  # type: ignore[assignment]
        self.ctc = CTC(self.encoder.model_dim, vocab_size, blank_id)
        self.ctc_weight = ctc_weight
        self.label_smoothing = label_smoothing
        self.blank_id, self.bos_id, self.eos_id = blank_id, bos_id, eos_id

    def forward(
        self,
        source: Tensor,
        lengths: Tensor,
        target: Tensor,
        target_lengths: Tensor,
        augment: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> HybridLoss:
        """Joint loss of a batch; `augment` changes normalised features (B,S,F) of lengths (B,) before the encoder."""
        features = self.normalise(source, lengths)
        if augment is not None:
            features = augment(features, lengths)
        return self.loss(self.encoder(features, lengths), target, target_lengths)

    def encode(self, source: Tensor, lengths: Tensor) -> Memory:
        """Features (B,S,F), lengths (B,) -> Memory"""
        return self.encoder(self.normalise(source, lengths), lengths)

    def loss(self, memory: Memory, target: Tensor, target_lengths: Tensor) -> HybridLoss:
        """Joint loss of targets (B,U) without bos and eos, lengths (B,) (Watanabe et al. 2017, eq. 12)."""
        ctc = self.ctc.loss(memory, target, target_lengths).sum() / target_lengths.sum().clamp(min=1)
        attention = self._attention_loss(memory, target, target_lengths)
        return HybridLoss(self.ctc_weight * ctc + (1 - self.ctc_weight) * attention, ctc, attention)

    def _attention_loss(self, memory: Memory, target: Tensor, target_lengths: Tensor) -> Tensor:
        """Cross-entropy against labels smoothed over the vocabulary (Szegedy et al. 2016, section 7)."""
        column = target.new_full((target.size(0), 1), 0)
        valid = valid_mask(target_lengths, target.size(1))
        tokens = torch.cat((column + self.bos_id, target.masked_fill(~valid, self.eos_id)), dim=1)  # (B,U+1)
        labels = torch.cat((target, column), dim=1)
        labels = labels.scatter(1, target_lengths.unsqueeze(1), self.eos_id)
        log_probs = self.decoder(memory, tokens).float()  # (B,U+1,V)
        correct = log_probs.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
        smoothed = (1 - self.label_smoothing) * correct + self.label_smoothing * log_probs.mean(dim=-1)
        counted = valid_mask(target_lengths + 1, labels.size(1))
        return -smoothed.masked_fill(~counted, 0.0).sum() / counted.sum()
