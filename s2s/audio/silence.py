"""Silence at the end of what was heard, known at once."""

from __future__ import annotations

import torch
from torch import Tensor

FRAME = 0.02  # seconds
_INAUDIBLE = 1e-7  # of full scale, which is 1
_RANGE, _NOISE, _MOST = 1e-3, 4.0, 0.05  # 30 dB below speech; 6 dB over the noise, where that is 13 dB below speech


def trailing_silence(samples: Tensor, sampling_rate: int) -> float:
    """Seconds of silence at the end of a stretch (n,), by power in frames of 20 ms; all of it where nothing is louder.

    Silent is what lies 30 dB below the loud frames (of which 5 in 100 are louder), or little above the quiet ones.
    Needs no future, unlike a detector that estimates noise: for end points, not for cutting.
    """
    size = round(FRAME * sampling_rate)
    frames = samples[len(samples) % size :].view(-1, size)
    if not len(frames):
        return len(samples) / sampling_rate
    power = frames.double().square().mean(dim=1)
    quiet, loud = power.quantile(torch.tensor([0.1, 0.95], dtype=power.dtype)).tolist()
    threshold = max(_INAUDIBLE, _RANGE * loud, min(_NOISE * quiet, _MOST * loud))
    speech = (power > threshold).nonzero()
    if not len(speech):
        return len(samples) / sampling_rate
    return (len(frames) - 1 - int(speech[-1])) * size / sampling_rate
