"""The loss of a decoder that is given the right tokens."""

from __future__ import annotations

from torch import Tensor

from s2s.models.distillation import Lesson
from s2s.models.language_model import cross_entropy
from s2s.models.memory import Decoder, Memory
from s2s.models.transformer_decoder import TransformerDecoder


def decoder_loss(
    decoder: Decoder,
    memory: Memory,
    tokens: Tensor,
    labels: Tensor,
    counted: Tensor,
    label_smoothing: float,
    lesson: Lesson | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Nats per label of tokens (B,U) against labels (B,U), as `cross_entropy`, or a `lesson`, and its parts by name.

    In a training it is that of all classifiers where a decoder has several, otherwise of the last one. Where the
    decoder has an `alignment_loss`, that is added.
    """

    def measure(log_probs: Tensor) -> Tensor:
        loss = cross_entropy(log_probs, labels, counted, label_smoothing)
        return loss if lesson is None else lesson.of_tokens(loss, log_probs, counted)

    if not isinstance(decoder, TransformerDecoder):
        return measure(decoder(memory, tokens)), {}
    alignment_loss = decoder.alignment_loss
    parts: dict[str, Tensor] = {}
    reading = decoder.parallel(memory, tokens, () if alignment_loss is None else alignment_loss.weights_of)
    loss = measure(decoder.log_probs(reading.x))
    if decoder.classifiers is not None and decoder.training:
        loss, parts = decoder.classifiers.loss(decoder.all_logits(reading.x), loss, measure)
    if alignment_loss is None:
        return loss, parts
    alignments, weights = list(reading.alignments.values()), list(reading.weights.values())
    more, own = alignment_loss(alignments, weights, counted, memory.lengths)
    return loss + more, {**parts, "cross_entropy": loss, **own}
