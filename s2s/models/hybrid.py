"""The hybrid CTC/attention model."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from s2s.errors import UserError
from s2s.models.ctc import CTC
from s2s.models.language_model import cross_entropy, teacher_forced
from s2s.models.memory import AttentionDecoder, Decoder, Encoder, Memory
from s2s.nn.lengths import valid_mask


class HybridLoss(NamedTuple):
    """Losses of one batch, in nats per target token (eos counted for attention), for logging and descent.

    `attention` is of both decoders where there are two.
    """

    total: Tensor
    ctc: Tensor
    attention: Tensor


def right_to_left(target: Tensor, lengths: Tensor) -> Tensor:
    """Targets (B,U) of lengths (B,), each turned round; the padding stays where it is."""
    positions = torch.arange(target.size(1), device=target.device)
    turned = torch.where(valid_mask(lengths, target.size(1)), lengths.unsqueeze(1) - 1 - positions, positions)
    return target.gather(1, turned)


class HybridModel(nn.Module):
    """One encoder under a CTC output and an attention decoder (Watanabe et al. 2017, "Hybrid CTC/attention").

    `normalise`, `encoder` and `decoder` are modules; `ctc_weight` is λ in λ L_ctc + (1-λ) L_attention. For rescoring, a
    `reverse_decoder` learns the targets from right to left; `reverse_weight` is its share of L_attention (Wu et al.
    2021, "U2++", arXiv:2106.05642).
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
        reverse_decoder: nn.Module | None = None,
        reverse_weight: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0.0 <= ctc_weight <= 1.0:
            raise UserError(f"ctc_weight={ctc_weight}: expected a number from 0 (attention alone) to 1 (CTC alone)")
        if not 0.0 <= label_smoothing < 1.0:
            raise UserError(f"label_smoothing={label_smoothing}: expected a number from 0 to below 1")
        if not 0.0 <= reverse_weight <= 1.0:
            raise UserError(f"reverse_weight={reverse_weight}: expected a number from 0 to 1, such as 0.3")
        if reverse_weight and reverse_decoder is None:
            raise UserError(
                f"reverse_weight={reverse_weight}: there is no reverse_decoder; give one, or leave both out"
            )
        self.vocab_size = vocab_size
        self.normalise = normalise
        self.encoder: Encoder = encoder  # type: ignore[assignment]
        self.decoder: AttentionDecoder = decoder  # type: ignore[assignment]
        self.reverse_decoder: Decoder | None = reverse_decoder  # type: ignore[assignment]
        self.ctc = CTC(self.encoder.model_dim, vocab_size, blank_id)
        self.ctc_weight = ctc_weight
        self.reverse_weight = reverse_weight
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
        """(1-ρ) L_left-to-right + ρ L_right-to-left, with ρ the reverse weight (Wu et al. 2021)."""
        forwards = self._decoder_loss(self.decoder, memory, target, target_lengths)
        if self.reverse_decoder is None or not self.reverse_weight:
            return forwards
        turned = right_to_left(target, target_lengths)
        backwards = self._decoder_loss(self.reverse_decoder, memory, turned, target_lengths)
        return (1 - self.reverse_weight) * forwards + self.reverse_weight * backwards

    def _decoder_loss(self, decoder: Decoder, memory: Memory, target: Tensor, target_lengths: Tensor) -> Tensor:
        tokens, labels, counted = teacher_forced(target, target_lengths, self.bos_id, self.eos_id)
        return cross_entropy(decoder(memory, tokens), labels, counted, self.label_smoothing)
