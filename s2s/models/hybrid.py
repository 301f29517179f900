"""The hybrid CTC/attention model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from torch import Tensor, nn

from s2s.audio.normalise import UtteranceNormalise
from s2s.errors import UserError
from s2s.models.ctc import CTC
from s2s.models.decoder_loss import decoder_loss
from s2s.models.intermediate_ctc import IntermediateCTC, IntermediateCTCConfig
from s2s.models.language_model import teacher_forced
from s2s.models.memory import AttentionDecoder, Decoder, Encoder, Memory
from s2s.models.streaming_encoder import StreamingEncoder
from s2s.nn.attention.reach import Chunked
from s2s.nn.frames import PastFrames
from s2s.nn.lengths import right_to_left


class HybridLoss(NamedTuple):
    """Losses of one batch, in nats per target token (eos counted for attention), for logging and descent.

    `ctc` is of all layers that have a CTC output, `attention` of both decoders where there are two, of all their
    classifiers, and with what their `alignment_loss` adds. `parts` are losses that these are made of, by name, where
    there are several.
    """

    total: Tensor
    ctc: Tensor
    attention: Tensor
    parts: Mapping[str, Tensor] = MappingProxyType({})


class HybridModel(nn.Module):
    """One encoder under a CTC output and an attention decoder (Watanabe et al. 2017, "Hybrid CTC/attention").

    `normalise`, `encoder` and `decoder` are modules; `ctc_weight` is λ in λ L_ctc + (1-λ) L_attention. For rescoring, a
    `reverse_decoder` learns the targets from right to left; `reverse_weight` is its share of L_attention (Wu et al.
    2021, "U2++", arXiv:2106.05642). `intermediate_ctc` gives layers within the encoder a CTC output too.
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
        intermediate_ctc: IntermediateCTCConfig | None = None,
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
        self.ctc = (
            CTC(self.encoder.model_dim, vocab_size, blank_id)
            if intermediate_ctc is None
            else IntermediateCTC(intermediate_ctc, encoder, vocab_size, blank_id)
        )
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
        target_ends: Tensor | None = None,
    ) -> HybridLoss:
        """Joint loss of a batch; `augment` changes normalised features (B,S,F) of lengths (B,) before the encoder.

        `target_ends` (B,U), the source frame after the last of each token, are for models that learn from them.
        """
        features = self.normalise(source, lengths)
        if augment is not None:
            features = augment(features, lengths)
        return self.loss(self._memory(features, lengths), target, target_lengths, target_ends)

    def encode(self, source: Tensor, lengths: Tensor, chunks: Chunked | None = None) -> Memory:
        """Features (B,S,F), lengths (B,) -> Memory; with `chunks`, that of a stream (see `StreamingEncoder`)."""
        features = self.normalise(source, lengths)
        if chunks is None:
            return self._memory(features, lengths)
        return self.streaming_encoder(features, lengths, self._within, chunks)

    def _memory(self, features: Tensor, lengths: Tensor) -> Memory:
        if self._within is not None:  # only an encoder whose layers can be asked has one
            return self.encoder(features, lengths, self._within)  # type: ignore[call-arg]
        return self.encoder(features, lengths)

    @property
    def _within(self) -> IntermediateCTC | None:
        return self.ctc if isinstance(self.ctc, IntermediateCTC) else None

    @property
    def can_stream(self) -> bool:
        """Whether it can be fed chunk by chunk (`StreamingEncoder.check_streaming`)."""
        try:
            self.streaming_encoder.check_streaming()
        except UserError:
            return False
        return True

    @property
    def streaming_encoder(self) -> StreamingEncoder:
        """The encoder; UserError where the model has to know whole utterances."""
        if isinstance(self.normalise, UtteranceNormalise):
            raise UserError("normalise: UtteranceNormalise needs whole utterances; it cannot be streamed")
        if isinstance(self.encoder, StreamingEncoder):
            return self.encoder
        raise UserError(f"encoder: {type(self.encoder).__name__} hears whole utterances alone; it cannot be streamed")

    def step(self, source: Tensor, lengths: Tensor, past: PastFrames) -> tuple[Memory, PastFrames]:
        """Windows of features (B,S,F), lengths (B,) -> Memory of their frames; as `StreamingEncoder.step`."""
        return self.streaming_encoder.step(self.normalise(source, lengths), lengths, past, self._within)

    def loss(
        self, memory: Memory, target: Tensor, target_lengths: Tensor, target_ends: Tensor | None = None
    ) -> HybridLoss:
        """Joint loss of targets (B,U) without bos and eos, lengths (B,) (Watanabe et al. 2017, eq. 12)."""
        ctc, ctc_parts = self._ctc_loss(memory, target, target_lengths)
        attention, attention_parts = self._attention_loss(memory, target, target_lengths, target_ends)
        total = self.ctc_weight * ctc + (1 - self.ctc_weight) * attention
        return HybridLoss(total, ctc, attention, {**ctc_parts, **attention_parts})

    def _ctc_loss(self, memory: Memory, target: Tensor, target_lengths: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """(1-w) L + w L_intermediate, with w the weight of intermediate layers (Lee & Watanabe 2021)."""
        count = target_lengths.sum().clamp(min=1)
        last = self.ctc.loss(memory, target, target_lengths).sum() / count
        if not isinstance(self.ctc, IntermediateCTC):
            return last, {}
        losses = self.ctc.intermediate_loss(memory, target, target_lengths)
        if losses is None:
            return last, {}
        intermediate, weight = losses.sum() / count, self.ctc.weight
        return (1 - weight) * last + weight * intermediate, {"ctc_last": last, "ctc_intermediate": intermediate}

    def _attention_loss(
        self, memory: Memory, target: Tensor, target_lengths: Tensor, target_ends: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """(1-ρ) L_left-to-right + ρ L_right-to-left, with ρ the reverse weight (Wu et al. 2021)."""
        forwards, parts = self._decoder_loss(self.decoder, memory, target, target_lengths)
        if self.reverse_decoder is None or not self.reverse_weight:
            return forwards, parts
        turned = right_to_left(target, target_lengths)
        backwards, _ = self._decoder_loss(self.reverse_decoder, memory, turned, target_lengths)
        return (1 - self.reverse_weight) * forwards + self.reverse_weight * backwards, parts

    def _decoder_loss(
        self, decoder: Decoder, memory: Memory, target: Tensor, target_lengths: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        tokens, labels, counted = teacher_forced(target, target_lengths, self.bos_id, self.eos_id)
        return decoder_loss(decoder, memory, tokens, labels, counted, self.label_smoothing)
