"""Change the sampling rate of a waveform."""

from __future__ import annotations

import numpy as np
import soxr
import torch
from torch import Tensor

from s2s.errors import UserError


def resample(samples: Tensor, orig_rate: int, new_rate: int) -> Tensor:
    """Resample a waveform (n,) from `orig_rate` to `new_rate` hertz with soxr's HQ filter; itself where they are equal.

    A resampler rings at steep edges, so a sample may leave [-1, 1] by a little.
    Raises UserError for a rate that is not positive.
    """
    if orig_rate <= 0 or new_rate <= 0:
        raise UserError(f"sampling rates must be positive, got {orig_rate} -> {new_rate} Hz")
    if samples.dim() != 1:
        raise ValueError(f"expected one waveform (n,), got the shape {tuple(samples.shape)}")
    if orig_rate == new_rate:
        return samples
    resampled = soxr.resample(samples.detach().float().cpu().numpy(), orig_rate, new_rate, quality="HQ")
    return torch.from_numpy(resampled).to(samples.device)


class ResampledStream:
    """A waveform that arrives in pieces, resampled: the numbers of `resample`, however it is cut."""

    def __init__(self, orig_rate: int, new_rate: int) -> None:
        """Raises UserError for a rate that is not positive."""
        if orig_rate <= 0 or new_rate <= 0:
            raise UserError(f"sampling rates must be positive, got {orig_rate} -> {new_rate} Hz")
        self._stream = None if orig_rate == new_rate else soxr.ResampleStream(orig_rate, new_rate, 1, quality="HQ")

    def feed(self, samples: Tensor) -> Tensor:
        """The next samples (n,) float32 -> as many as are known of the resampled ones."""
        if self._stream is None:
            return samples
        return torch.from_numpy(self._stream.resample_chunk(samples.contiguous().cpu().numpy()))

    def finish(self) -> Tensor:
        """The rest of the resampled ones."""
        if self._stream is None:
            return torch.zeros(0)
        return torch.from_numpy(self._stream.resample_chunk(np.zeros(0, np.float32), last=True))
