"""A batch of utterances, as a model takes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from s2s.models.prompts import Prompts


@dataclass(frozen=True)
class Batch:
    """B utterances: features and tokens, zero beyond their lengths.

    Attributes:
        ids: B names.
        source: (B,S,F) float32, or tokens (B,S) int64; those of N sources that are read at once (B,N,S).
        source_lengths: (B,) int64, frames or tokens; of N sources (B,N).
        target: (B,U) int64, without begin and end of sentence; U is 0 where the data set has no tokenizer.
        target_lengths: (B,) int64, tokens.
        texts: B texts, "" where there is none.
        seconds: audio in the batch, padding not counted.
        skipped: what was left out because its audio failed, `id: reason` each. B is 0 where that was all.
        target_ends: (B,U) int64, the frame after the last of each token; None where that is not known of all.
        asked: what a model is told it should write; None for one that takes no prompts.
        spoken: (B,U) int64, what is said where the target is a translation, and its lengths (B,); None: nobody says.
    """

    ids: list[str]
    source: Tensor
    source_lengths: Tensor
    target: Tensor
    target_lengths: Tensor
    texts: list[str]
    seconds: float
    skipped: list[str]
    target_ends: Tensor | None = None
    asked: Prompts | None = None
    spoken: tuple[Tensor, Tensor] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, numbers: Sequence[int]) -> Batch:
        """The utterances of those numbers; `seconds` is shared out, and what was skipped is not named again."""
        index, spoken = list(numbers), self.spoken
        return replace(
            self,
            ids=[self.ids[number] for number in index],
            source=self.source[index],
            source_lengths=self.source_lengths[index],
            target=self.target[index],
            target_lengths=self.target_lengths[index],
            texts=[self.texts[number] for number in index],
            seconds=self.seconds * len(index) / len(self),
            skipped=[],
            target_ends=None if self.target_ends is None else self.target_ends[index],
            asked=None if self.asked is None else self.asked.some(index),
            spoken=None if spoken is None else (spoken[0][index], spoken[1][index]),
        )

    def to(self, device: torch.device | str) -> Batch:
        """The same batch with its tensors on `device`."""
        return replace(
            self,
            source=self.source.to(device),
            source_lengths=self.source_lengths.to(device),
            target=self.target.to(device),
            target_lengths=self.target_lengths.to(device),
            target_ends=None if self.target_ends is None else self.target_ends.to(device),
            asked=None if self.asked is None else self.asked.to(device),
            spoken=None if self.spoken is None else (self.spoken[0].to(device), self.spoken[1].to(device)),
        )
