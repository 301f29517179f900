"""The hybrid CTC/attention model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor, nn

from s2s.audio.normalise import UtteranceNormalise
from s2s.errors import UserError
from s2s.models.ctc import CTC
from s2s.models.decoder_loss import decoder_loss
from s2s.models.distillation import Lesson
from s2s.models.intermediate_ctc import IntermediateCTC, IntermediateCTCConfig
from s2s.models.language_model import teacher_forced
from s2s.models.memory import HEARD, AttentionDecoder, Decoder, Encoder, Memory
from s2s.models.prompted_encoding import encode_asked
from s2s.models.prompts import Prompts
from s2s.models.streaming_encoder import StreamingEncoder
from s2s.nn.attention.reach import Chunked
from s2s.nn.frames import PastFrames
from s2s.nn.lengths import right_to_left

Spoken = tuple[Tensor, Tensor]
"""Tokens (B,U) of what is said, without bos and eos, lengths (B,)."""


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
    2021, "U2++", arXiv:2106.05642). `intermediate_ctc` gives layers within the encoder a CTC output too. Of a model
    that translates, CTC learns what the decoder writes, or where `ctc_text` is "source" what is said. With a
    `text_encoder`, which reads tokens, the decoder is given what is said as text too, behind the speech in one memory
    (`Memory.of_sources`; its `sources` say how it attends to both).
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
        ctc_text: str = "target",
        text_encoder: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if ctc_text not in ("target", "source"):
            raise UserError(f"ctc_text={ctc_text}: expected target or source")
        if text_encoder is not None and ctc_text != "source":
            raise UserError("text_encoder: what is said is given, so CTC learns that; expected ctc_text=source")
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
        self.text_encoder: Encoder | None = text_encoder  # type: ignore[assignment]
        self.reverse_decoder: Decoder | None = reverse_decoder  # type: ignore[assignment]
        self.ctc = (
            CTC(self.encoder.model_dim, vocab_size, blank_id)
            if intermediate_ctc is None
            else IntermediateCTC(intermediate_ctc, encoder, vocab_size, blank_id)
        )
        self.ctc_weight, self.ctc_text = ctc_weight, ctc_text
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
        asked: Prompts | None = None,
        spoken: Spoken | None = None,
        lesson: Lesson | None = None,
    ) -> HybridLoss:
        """Joint loss of a batch; `augment` changes normalised features (B,S,F) of lengths (B,) before the encoder.

        `target_ends` (B,U), the source frame after the last of each token, are for models that learn from them. What
        was `asked` is for those that take prompts, what was `spoken` for those whose `ctc_text` is the source or that
        read it. A `lesson` is what a teacher says of the batch.
        """
        features = self.normalise(source, lengths)
        if augment is not None:
            features = augment(features, lengths)
        memory = self._memory(features, lengths, asked, spoken)
        return self.loss(memory, target, target_lengths, target_ends, spoken, lesson)

    def encode(
        self,
        source: Tensor,
        lengths: Tensor,
        chunks: Chunked | None = None,
        asked: Prompts | None = None,
        spoken: Spoken | None = None,
    ) -> Memory:
        """Features (B,S,F), lengths (B,) -> Memory; with `chunks`, that of a stream (see `StreamingEncoder`).

        Raises UserError where the model reads what is `spoken` and nobody says it, or would be streamed.
        """
        features = self.normalise(source, lengths)
        if chunks is None:
            return self._memory(features, lengths, asked, spoken)
        if self.text_encoder is not None:
            raise UserError("decoding.chunk_size: this model reads the whole of what is said; leave it out")
        return encode_asked(self.streaming_encoder, features, lengths, asked, ctc=self._within, chunks=chunks)

    def _memory(
        self, features: Tensor, lengths: Tensor, asked: Prompts | None = None, spoken: Spoken | None = None
    ) -> Memory:
        options = {"ctc": self._within} if self._within is not None else {}  # only some encoders can be asked
        memory = encode_asked(self.encoder, features, lengths, asked, **options)
        if self.text_encoder is None:
            return memory
        if spoken is None:
            raise UserError(
                "text_encoder: this model reads what is said beside hearing it, and nobody says it; decode data with a "
                "text (`s2s decode`), such as what another model has recognised"
            )
        text = encode_asked(self.text_encoder, *spoken, asked)
        return replace(Memory.of_sources([memory, text]), layers={HEARD: memory}, asked=asked)

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
        if self.text_encoder is not None:
            raise UserError("text_encoder: reads the whole of what is said; it cannot be streamed")
        if isinstance(self.normalise, UtteranceNormalise):
            raise UserError("normalise: UtteranceNormalise needs whole utterances; it cannot be streamed")
        if isinstance(self.encoder, StreamingEncoder):
            return self.encoder
        raise UserError(f"encoder: {type(self.encoder).__name__} hears whole utterances alone; it cannot be streamed")

    def step(self, source: Tensor, lengths: Tensor, past: PastFrames) -> tuple[Memory, PastFrames]:
        """Windows of features (B,S,F), lengths (B,) -> Memory of their frames; as `StreamingEncoder.step`."""
        return self.streaming_encoder.step(self.normalise(source, lengths), lengths, past, self._within)

    def loss(
        self,
        memory: Memory,
        target: Tensor,
        target_lengths: Tensor,
        target_ends: Tensor | None = None,
        spoken: Spoken | None = None,
        lesson: Lesson | None = None,
    ) -> HybridLoss:
        """Joint loss of targets (B,U) without bos and eos, lengths (B,) (Watanabe et al. 2017, eq. 12).

        Raises UserError where CTC learns what was `spoken` and nobody says it.
        """
        if self.ctc_text == "target":
            spoken = target, target_lengths
        elif spoken is None:
            raise UserError("ctc_text=source: nobody says what is spoken; train it with task=speech_translation")
        ctc, ctc_parts = self._ctc_loss(memory.heard, *spoken, lesson)
        attention, attention_parts = self._attention_loss(memory, target, target_lengths, target_ends, lesson)
        total = self.ctc_weight * ctc + (1 - self.ctc_weight) * attention
        return HybridLoss(total, ctc, attention, {**ctc_parts, **attention_parts})

    def _ctc_loss(
        self, memory: Memory, target: Tensor, target_lengths: Tensor, lesson: Lesson | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """(1-w) L + w L_intermediate, with w the weight of intermediate layers (Lee & Watanabe 2021)."""
        count = target_lengths.sum().clamp(min=1)

        def taught(loss: Tensor, layer: Memory) -> Tensor:
            return loss if lesson is None else lesson.of_frames(loss, self.ctc(layer), layer.lengths, count)

        last = taught(self.ctc.loss(memory, target, target_lengths).sum() / count, memory)
        if not isinstance(self.ctc, IntermediateCTC):
            return last, {}
        losses = self.ctc.intermediate_loss(memory, target, target_lengths)
        if losses is None:
            return last, {}
        layers = [memory.layers[i] for i in self.ctc.layers]
        intermediate = torch.stack([taught(losses.sum() / count, layer) for layer in layers]).mean()
        weight = self.ctc.weight
        return (1 - weight) * last + weight * intermediate, {"ctc_last": last, "ctc_intermediate": intermediate}

    def _attention_loss(
        self,
        memory: Memory,
        target: Tensor,
        target_lengths: Tensor,
        target_ends: Tensor | None = None,
        lesson: Lesson | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """(1-ρ) L_left-to-right + ρ L_right-to-left, with ρ the reverse weight (Wu et al. 2021)."""
        forwards, parts = self._decoder_loss(self.decoder, memory, target, target_lengths, lesson)
        if self.reverse_decoder is None or not self.reverse_weight:
            return forwards, parts
        turned = right_to_left(target, target_lengths)
        backwards, _ = self._decoder_loss(self.reverse_decoder, memory, turned, target_lengths)
        return (1 - self.reverse_weight) * forwards + self.reverse_weight * backwards, parts

    def _decoder_loss(
        self,
        decoder: Decoder,
        memory: Memory,
        target: Tensor,
        target_lengths: Tensor,
        lesson: Lesson | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        tokens, labels, counted = teacher_forced(target, target_lengths, self.bos_id, self.eos_id)
        return decoder_loss(decoder, memory, tokens, labels, counted, self.label_smoothing, lesson)
