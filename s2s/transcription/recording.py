"""What can be transcribed: a file, samples in memory, or blocks that come from anywhere."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from s2s.audio.read import read_blocks
from s2s.errors import UserError

Audio = str | os.PathLike[str] | np.ndarray | Tensor


@dataclass(frozen=True)
class Recording:
    """A recording that is read when it is needed, in blocks (n,) at the sampling rate that is asked for."""

    name: str
    blocks: Callable[[int], Iterator[Tensor]]

    @classmethod
    def of(cls, audio: Audio | Recording, channel: int | None = None) -> Recording:
        """A file by its path (`channel` counts from 1; None is the mean), or samples (n,) at the model's rate."""
        if isinstance(audio, Recording):
            return audio
        if isinstance(audio, str | os.PathLike):
            return cls(os.fspath(audio), lambda rate: read_blocks(audio, rate, channel=channel))
        samples, name = torch.as_tensor(audio, dtype=torch.float32), "the array of samples"
        if samples.dim() != 1:
            raise UserError(f"{name} has the shape {tuple(samples.shape)}; expected one channel, (n,)")
        return cls(name, lambda rate: iter([samples]))


def recordings(audio: Audio | Recording | Sequence[Audio | Recording]) -> Iterator[Recording]:
    """One recording, or each of several."""
    if isinstance(audio, str | os.PathLike | np.ndarray | Tensor | Recording):
        audio = [audio]
    return map(Recording.of, audio)
