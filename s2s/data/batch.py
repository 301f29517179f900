"""A batch of utterances, as a model takes it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


# Languages and prompts join it with the first multilingual recipe.
@dataclass(frozen=True)
class Batch:
    """B utterances: features and tokens, zero beyond their lengths.

    Attributes:
        ids: B names.
        source: (B,S,F) float32.
        source_lengths: (B,) int64, frames.
        target: (B,U) int64, without begin and end of sentence; U is 0 where the data set has no tokenizer.
        target_lengths: (B,) int64, tokens.
        texts: B texts, "" where there is none.
        seconds: audio in the batch, padding not counted.
        skipped: what was left out because its audio failed, `id: reason` each. B is 0 where that was all.
        target_ends: (B,U) int64, the frame after the last of each token; None where that is not known of all.
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

    def __len__(self) -> int:
        return len(self.ids)

    def to(self, device: torch.device | str) -> Batch:
        """The same batch with its tensors on `device`."""
        return replace(
            self,
            source=self.source.to(device),
            source_lengths=self.source_lengths.to(device),
            target=self.target.to(device),
            target_lengths=self.target_lengths.to(device),
            target_ends=None if self.target_ends is None else self.target_ends.to(device),
        )
