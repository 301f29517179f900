"""The internal language model of an attention decoder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from s2s.decoding.scorers import DecoderScorer
from s2s.errors import UserError, nearest
from s2s.files import replacing
from s2s.models.memory import Memory

ESTIMATES = ("zero", "utterance")
STATES, LAYER = "states", "layers."


Estimate = Callable[[Memory], Memory]
"""What takes the place of a memory and its layers where a decoder is to hear nothing."""


def zeros(memory: Memory) -> Memory:
    """One frame of zeros for each utterance."""
    return _one_frame(memory, lambda each, _: torch.zeros_like(_sums(each)))


def utterance_mean(memory: Memory) -> Memory:
    """One frame for each utterance: the mean of its frames."""
    return _one_frame(memory, lambda each, _: _sums(each) / each.frame_counts.sum(dim=1).clamp(min=1)[:, None, None])


@dataclass(frozen=True)
class MeanStates:
    """One frame for all utterances: the mean (D,) of all frames of a data set, and of `layers` where there are some."""

    states: Tensor
    layers: Mapping[int, Tensor]

    @classmethod
    def of(cls, memories: Iterable[Memory]) -> MeanStates:
        """That of all frames of the utterances of memories; UserError where there is none."""
        sums: dict[int | None, Tensor] = {}
        count = 0.0
        for memory in memories:
            count += float(memory.frame_counts.sum())
            for number, each in [(None, memory), *memory.layers.items()]:
                total = _sums(each).double().sum(dim=(0, 1))
                sums[number] = sums[number] + total if number in sums else total
        if not count:
            raise UserError("no utterances: there is nothing to take the mean of")
        layers = {number: total / count for number, total in sums.items() if number is not None}
        return cls(sums[None] / count, layers)

    def __call__(self, memory: Memory) -> Memory:
        """UserError where it is not of the encoder that this memory is of."""
        fits = len(self.states) == memory.states.size(-1) and memory.layers.keys() <= self.layers.keys()
        if not fits or any(len(self.layers[i]) != layer.states.size(-1) for i, layer in memory.layers.items()):
            raise UserError(
                "decoding.internal_lm: the mean states are not of this model's encoder; make them with its own bundle"
            )
        means: dict[int | None, Tensor] = {None: self.states}
        for number, mean in self.layers.items():
            means[number] = mean
        return _one_frame(memory, lambda each, i: means[i].to(each.states).expand(len(each.lengths), 1, -1))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a safetensors file."""
        tensors = {STATES: self.states, **{f"{LAYER}{number}": mean for number, mean in self.layers.items()}}
        with replacing(path) as beside:
            save_file({name: mean.float().cpu().contiguous() for name, mean in tensors.items()}, beside)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> MeanStates:
        """Read a file that `save` wrote; UserError where it is not that."""
        try:
            tensors = load_file(Path(path))
            return cls(tensors.pop(STATES), {int(name.removeprefix(LAYER)): mean for name, mean in tensors.items()})
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise UserError(
                f"{path}: cannot read mean states ({error}); expected a file that `s2s lm mean-states` wrote"
            ) from error


def _sums(memory: Memory) -> Tensor:
    """The sum of the frames of each utterance (B,1,D)."""
    counts = memory.frame_counts.unsqueeze(-1).to(memory.states.dtype)
    return memory.states.masked_fill(counts == 0, 0.0).mul(counts).sum(dim=1, keepdim=True)


def _one_frame(memory: Memory, frame: Callable[[Memory, int | None], Tensor]) -> Memory:
    """What `frame` (B,1,D) says of a memory (None), and of each of its layers by number, with what was asked for it."""
    ones = torch.ones_like(memory.lengths)
    layers = {number: Memory(frame(layer, number), ones) for number, layer in memory.layers.items()}
    return Memory(frame(memory, None), ones, layers=layers, asked=memory.asked)


@dataclass(frozen=True)
class InternalLMScorer(DecoderScorer):
    """What a decoder says where it hears nothing: an estimate of the language model it has learnt beside its task.

    Subtracted, under a negative weight, it makes room for a language model of the domain at hand (Variani et al. 2020,
    "Hybrid autoregressive transducer", arXiv:2003.07705; for attention decoders Meng et al. 2021, arXiv:2011.01991).
    What is in place of the memory is an `estimate`: `zeros`, or one of the means of Zeineldeen et al. 2021
    (arXiv:2104.05544), `utterance_mean` and the `MeanStates` of the training data. One frame is enough: attention over
    more that are alike gives the same.
    """

    estimate: Estimate = zeros

    def start(self, memory: Memory, beam_size: int) -> Any:
        return super().start(self.estimate(memory), beam_size)


def load_estimate(name: str) -> Estimate:
    """That of a name ("zero", "utterance"), or of a file of mean states; UserError where it is neither."""
    if name in ESTIMATES:
        return zeros if name == "zero" else utterance_mean
    if not Path(name).is_file():
        raise UserError(
            f"decoding.internal_lm={name}: expected {' or '.join(ESTIMATES)}, or a file that `s2s lm mean-states` "
            f"wrote, and there is no such file.{nearest(name, ESTIMATES)}"
        )
    return MeanStates.load(name)
