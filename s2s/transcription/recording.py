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
        name = "the array of samples"
        try:
            samples = torch.as_tensor(audio)
        except (TypeError, ValueError, RuntimeError) as error:
            raise UserError(f"{type(audio).__name__}: expected a path, or samples as an array (n,)") from error
        if samples.dim() != 1:
            raise UserError(f"{name} has the shape {tuple(samples.shape)}; expected one channel, (n,)")
        if not samples.is_floating_point():
            raise UserError(f"{name} holds {samples.dtype}; expected floating point in [-1, 1]")
        return cls(name, lambda rate: iter([samples.float()]))


def recordings(audio: Audio | Recording | Sequence[Audio | Recording]) -> Iterator[Recording]:
    """One recording, or each of several."""
    if isinstance(audio, str | os.PathLike | np.ndarray | Tensor | Recording):
        audio = [audio]
    return map(Recording.of, audio)
