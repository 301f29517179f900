"""Decoders of random weights whose heads stop at various frames, and monotonic attention enumerated."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from toy import toy_model

from s2s.models.alignment_loss import AlignmentLossConfig
from s2s.models.hybrid import HybridModel
from s2s.models.transformer_decoder import TransformerDecoder
from s2s.nn.attention.config import AttentionConfig

Window = Callable[[int], range]  # the frames that a head sees which stops at a frame


def enumerated(energies: Tensor, scores: Tensor, window: Window) -> tuple[Tensor, Tensor]:
    """α and β (U,T): for each token the sum over all alignments t_1 <= ... <= t_i of it and those before."""
    num_tokens, num_frames = energies.shape
    alignment, weights = torch.zeros_like(energies), torch.zeros_like(energies)
    for i in range(num_tokens):
        for path in itertools.combinations_with_replacement(range(num_frames), i + 1):
            probability = 1.0
            for u, (start, stop) in enumerate(itertools.pairwise((0, *path))):
                for j in range(start, stop):
                    probability *= 1.0 - 1.0 / (1.0 + math.exp(-energies[u, j]))
                probability *= 1.0 / (1.0 + math.exp(-energies[u, stop]))
            alignment[i, path[-1]] += probability
            seen = window(path[-1])
            total = sum(math.exp(scores[i, j]) for j in seen)
            for j in seen:
                weights[i, j] += probability * math.exp(scores[i, j]) / total
    return alignment, weights


def monotonic_decoder(
    vocab_size: int = 7, seed: int = 0, loss: AlignmentLossConfig | None = None, **options: Any
) -> TransformerDecoder:
    """Two layers of two heads that stop after a few frames or many, float64; `options` are those of AttentionConfig."""
    torch.manual_seed(seed)
    config = AttentionConfig(kind="monotonic", **{"stop_bias": -3.0, **options})
    model = TransformerDecoder(vocab_size, 16, 16, 2, 2, 32, 0.0, cross_attention=config, alignment_loss=loss)
    with torch.no_grad():
        model.out.weight *= 3  # type: ignore[union-attr, operator]
        for layer in model.layers:
            stop, heads = layer.memory_attention.stop, layer.memory_attention.heads
            assert stop is not None
            (heads.query if stop.query is None else stop.query).weight *= 6
    return model.double().eval()


def monotonic_model(vocab_size: int = 8, seed: int = 0, **options: Any) -> HybridModel:
    """The toy model with such a decoder."""
    toy = toy_model(vocab_size, seed)
    decoder = monotonic_decoder(vocab_size, seed, **options)
    model = HybridModel(vocab_size, toy.normalise, toy.encoder, decoder)  # type: ignore[arg-type]
    model.ctc.load_state_dict(toy.ctc.state_dict())
    return model.double().eval()
