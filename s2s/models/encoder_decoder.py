"""The attention encoder-decoder without anything else."""

from __future__ import annotations

from torch import Tensor, nn

from s2s.errors import UserError
from s2s.models.auxiliary_classifiers import decoder_loss
from s2s.models.language_model import teacher_forced
from s2s.models.memory import AttentionDecoder, Encoder, Memory


class EncoderDecoder(nn.Module):
    """An encoder and a decoder that attends to what it gives: speech or text in, text out (Vaswani et al. 2017)."""

    def __init__(
        self,
        vocab_size: int,
        encoder: nn.Module,
        decoder: nn.Module,
        bos_id: int = 2,
        eos_id: int = 3,
        label_smoothing: float = 0.1,
    ) -> None:
        super().__init__()
        if not 0.0 <= label_smoothing < 1.0:
            raise UserError(f"label_smoothing={label_smoothing}: expected a number from 0 to below 1")
        self.vocab_size = vocab_size
        self.encoder: Encoder = encoder  # type: ignore[assignment]
        self.decoder: AttentionDecoder = decoder  # type: ignore[assignment]
        self.bos_id, self.eos_id = bos_id, eos_id
        self.label_smoothing = label_smoothing

    def encode(self, source: Tensor, lengths: Tensor) -> Memory:
        """Features (B,S,F) or tokens (B,S), lengths (B,) -> Memory"""
        return self.encoder(source, lengths)

    def forward(self, source: Tensor, lengths: Tensor, target: Tensor, target_lengths: Tensor) -> Tensor:
        """Cross-entropy of targets (B,U) without bos and eos, lengths (B,), in nats per token, eos counted."""
        tokens, labels, counted = teacher_forced(target, target_lengths, self.bos_id, self.eos_id)
        memory = self.encode(source, lengths)
        return decoder_loss(self.decoder, memory, tokens, labels, counted, self.label_smoothing)[0]
