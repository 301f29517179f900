"""The loss of a decoder that is given the right tokens."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from s2s.models.language_model import cross_entropy
from s2s.models.memory import Decoder, Memory
from s2s.models.transformer_decoder import TransformerDecoder


def decoder_loss(
    decoder: Decoder, memory: Memory, tokens: Tensor, labels: Tensor, counted: Tensor, label_smoothing: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """Nats per label of tokens (B,U) against labels (B,U), as `cross_entropy`, and its parts by name.

    In a training it is that of all classifiers where a decoder has several, otherwise of the last one. Where the
    decoder has an `alignment_loss`, that is added.
    """
    measure = partial(cross_entropy, labels=labels, counted=counted, label_smoothing=label_smoothing)
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
