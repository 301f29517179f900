"""Audio that arrives in pieces, from wherever it is decoded: one channel of it, checked, resampled, in blocks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from s2s.audio.resample import ResampledStream
from s2s.errors import UserError

_LOUDEST = 16.0  # floating point may pass full scale a little; 24 dB over it is another scale
_SLOWEST = 100  # hertz: a header that says less is damaged, and resampling would make a second of every sample


@dataclass(frozen=True)
class Sound:
    """Audio still to be decoded: memory holds a piece of it at a time, and it can be gone through once.

    Attributes:
        name: what messages call it: the file's path.
        sampling_rate: hertz.
        num_channels: C.
        pieces: samples (n,C) in float32, full scale at [-1, 1], in order.
    """

    name: str
    sampling_rate: int
    num_channels: int
    pieces: Iterator[np.ndarray]

    def blocks(
        self, sampling_rate: int | None = None, block_seconds: float = 30.0, channel: int | None = None
    ) -> Iterator[Tensor]:
        """Samples (n,) in float32, `block_seconds` at a time, the last fewer.

        `sampling_rate` is in hertz; None is the sound's own. `channel` counts from 1; None is the mean of all.
        The numbers are those of `s2s.audio.resample.resample`: soxr's stream gives the same however a sound is cut.
        Raises UserError for a rate or a length that is not positive, a channel that is not there, a sound of no samples
        and, once reached, one that is not in [-1, 1]; whatever `pieces` raises comes after the samples before it.
        """
        rate = self.sampling_rate if sampling_rate is None else sampling_rate
        if rate <= 0:
            raise UserError(f"sampling rates must be positive, got {self.sampling_rate} -> {rate} Hz")
        if self.sampling_rate < _SLOWEST:
            raise cut_short(self.name, f"its header says {self.sampling_rate} Hz")
        if not 0 < block_seconds < math.inf:
            raise UserError(f"block_seconds must be a positive number of seconds, got {block_seconds}")
        if channel is not None and not 1 <= channel <= self.num_channels:
            raise UserError(
                f"{self.name}: has no channel {channel}; name one from 1 to {self.num_channels}, or none for their mean"
            )
        size = max(1, round(block_seconds * rate))
        block, filled = np.empty(size, np.float32), 0
        problems: list[UserError] = []
        for piece in self._resampled(_noting(self._mono(channel), problems), rate):
            while len(piece):
                part = piece[: size - filled]
                block[filled : filled + len(part)] = part
                piece, filled = piece[len(part) :], filled + len(part)
                if filled == size:
                    yield torch.from_numpy(block)
                    block, filled = np.empty(size, np.float32), 0
        if filled:
            yield torch.from_numpy(block[:filled].copy())
        if problems:
            raise problems[0]

    def _mono(self, channel: int | None) -> Iterator[np.ndarray]:
        heard = 0
        for piece in self.pieces:
            if channel is not None:
                samples = piece[:, channel - 1]
            else:
                samples = piece[:, 0] if self.num_channels == 1 else piece.mean(axis=1)
            peak = float(np.abs(samples).max(initial=0.0))
            if not peak <= _LOUDEST:  # NaN too
                raise UserError(
                    f"{self.name}: its samples reach {peak:g}, expected floating point in [-1, 1]; "
                    "scale them and write it again"
                )
            heard += len(samples)
            yield samples
        if not heard:
            raise no_samples(self.name)

    def _resampled(self, pieces: Iterator[np.ndarray], rate: int) -> Iterator[np.ndarray]:
        stream = ResampledStream(self.sampling_rate, rate)
        for piece in pieces:
            yield stream.feed(torch.from_numpy(np.ascontiguousarray(piece))).numpy()
        yield stream.finish().numpy()


def _noting(pieces: Iterator[np.ndarray], problems: list[UserError]) -> Iterator[np.ndarray]:
    """The pieces; what ends them too early is noted, not raised: what came before it still has to get through."""
    try:
        yield from pieces
    except UserError as error:
        problems.append(error)


def cut_short(name: str, found: str) -> UserError:
    """What to raise for audio that ends before it should."""
    return UserError(f"{name}: is cut short or damaged ({found}); fetch or copy it again, or leave it out")


def no_samples(name: str) -> UserError:
    """What to raise for audio without a single sample."""
    return UserError(f"{name}: holds no samples; fetch or record it again, or leave it out")
