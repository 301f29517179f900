"""The segmental model: CTC says where labels end, attention within a segment what they are."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from s2s.errors import UserError
from s2s.models.ctc_alignment import Alignment, best_path
from s2s.models.distillation import Lesson
from s2s.models.hybrid import HybridModel
from s2s.models.intermediate_ctc import IntermediateCTCConfig
from s2s.models.language_model import cross_entropy
from s2s.models.memory import Memory
from s2s.models.segmental_decoder import SegmentalDecoder
from s2s.models.segmentation import fitted, length_log_prob
from s2s.nn.lengths import valid_mask


class SegmentalModel(HybridModel):
    """An encoder under a CTC output and a segmental decoder (Zeyer et al. 2022, arXiv:2210.14742).

    The loss is λ L_ctc + (1-λ) (L_label + w L_length), with λ the `ctc_weight` and w the `length_weight`, of segments
    that are given (Viterbi training): each ends where a label does in the best path of the model's own CTC output,
    found anew for every batch, or where `target_ends` say. With w = 1 what λ leaves is -log P(labels, segments). A
    training leaves to CTC alone the utterances whose labels have a mean probability in that path of less than
    `min_confidence`: before CTC knows where they are, it is no guide. And the encoder learns from L_length only where
    ends are given: its own, which move as it learns, would hold it back.
    """

    decoder: SegmentalDecoder  # type: ignore[assignment]

    def __init__(
        self,
        vocab_size: int,
        normalise: nn.Module,
        encoder: nn.Module,
        decoder: nn.Module,
        ctc_weight: float = 0.3,
        length_weight: float = 1.0,
        min_confidence: float = 0.3,
        label_smoothing: float = 0.1,
        blank_id: int = 0,
        bos_id: int = 2,
        eos_id: int = 3,
        intermediate_ctc: IntermediateCTCConfig | None = None,
    ) -> None:
        if not isinstance(decoder, SegmentalDecoder):
            raise UserError(
                f"decoder: a {type(decoder).__name__}; expected s2s.models.segmental_decoder.SegmentalDecoder"
            )
        if not length_weight >= 0.0:
            raise UserError(f"length_weight={length_weight}: expected 0 or more, such as 1.0")
        if not 0.0 <= min_confidence <= 1.0:
            raise UserError(f"min_confidence={min_confidence}: expected a probability, from 0 to 1")
        super().__init__(
            vocab_size,
            normalise,
            encoder,
            decoder,
            ctc_weight,
            label_smoothing,
            blank_id,
            bos_id,
            eos_id,
            intermediate_ctc=intermediate_ctc,
        )
        self.length_weight, self.min_confidence = length_weight, min_confidence

    def _attention_loss(
        self,
        memory: Memory,
        target: Tensor,
        target_lengths: Tensor,
        target_ends: Tensor | None = None,
        lesson: Lesson | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """L_label + w L_length in nats per label, and both.

        `target_ends` (B,U) are frames of the source, those after the last one of each label. A `lesson` teaches CTC
        alone.
        """
        counted = valid_mask(target_lengths, target.size(1))
        learned = counted
        if target_ends is None:
            path = self.ctc_path(memory, target, target_lengths)
            ends = path.ends
            if self.training:
                confidence = path.confidences.sum(dim=1) / target_lengths.clamp(min=1)
                learned = counted & (confidence >= self.min_confidence).unsqueeze(1)
        else:
            ends = -(-target_ends // self.encoder.subsampling_factor)
        ends = fitted(ends, target_lengths, memory.lengths)
        target = target.masked_fill(~counted, self.eos_id)
        tokens = F.pad(target, (1, 0), value=self.bos_id)
        log_probs, odds = self.decoder(memory, tokens, ends, length_gradient=target_ends is not None)
        count = counted.sum().clamp(min=1)
        label = cross_entropy(log_probs, target, learned, self.label_smoothing) * (learned.sum() / count)
        lengths = length_log_prob(odds.float(), ends, memory.lengths) * learned.any(dim=1)
        length = -lengths.sum() / count
        return label + self.length_weight * length, {"label": label, "length": length}

    @torch.no_grad()
    def ctc_path(self, memory: Memory, target: Tensor, target_lengths: Tensor) -> Alignment:
        """The best path of the CTC output through the targets (B,U)."""
        return best_path(self.ctc(memory), memory.lengths, target, target_lengths, self.blank_id)
