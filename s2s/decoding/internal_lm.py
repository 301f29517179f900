"""The internal language model of an attention decoder."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from s2s.decoding.scorers import DecoderScorer
from s2s.models.memory import Memory


class InternalLMScorer(DecoderScorer):
    """What a decoder says with a memory of zeros: an estimate of the language model it has learnt beside its task.

    Subtracted, under a negative weight, it makes room for a language model of the domain at hand (Variani et al. 2020,
    "Hybrid autoregressive transducer", arXiv:2003.07705; for attention decoders Meng et al. 2021, arXiv:2011.01991, and
    Zeineldeen et al. 2021, arXiv:2104.05544). One frame of zeros is enough: attention over more gives the same.
    """

    def start(self, memory: Memory, beam_size: int) -> Any:
        layers = {number: _zeros(layer) for number, layer in memory.layers.items()}
        return super().start(replace(_zeros(memory), layers=layers), beam_size)


def _zeros(memory: Memory) -> Memory:
    return Memory(torch.zeros_like(memory.states[:, :1]), torch.ones_like(memory.lengths))
