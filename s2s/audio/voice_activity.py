"""Where a recording holds speech: what every detector does, and one that needs no library."""

from __future__ import annotations

from collections import deque
from importlib.util import find_spec
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from s2s.errors import UserError

FRAME = 0.032  # seconds, rounded to samples

_EDGES = (200.0, 400.0, 800.0, 1600.0, 3200.0, 6400.0)  # hertz: speech without the rumble below and the hiss above
_GROUP = 32  # frames that share a noise floor: 1 s
_REACH = 8  # groups on each side that it is taken from
_QUIET, _LOUD = 0.1, 0.95  # shares of the frames that lie below what is taken for noise, and for speech
_STEADY = 1.3  # mean power of steady noise over the power that its quietest tenth stays below
_RANGE = 1e-5  # a word's weakest sound lies less than 50 dB below the loud frames
_SILENCE = 1e-10  # of full scale, which is 1; the rounding of 16-bit samples leaves less in a band
_DOUBT = 2.4  # power over noise where speech is as likely as not, 3.8 dB; steady noise stays below 1.4


class VoiceActivity(Protocol):
    """A detector for one recording, fed in pieces of any size; how it was cut into them changes no probability.

    Frame t is the 32 ms from sample t * frame_samples on; zeros fill the last one. Probabilities are on the CPU; those
    of a frame may come some seconds after it, and what is still owed with `finish`. The next `feed` starts anew.
    """

    sampling_rate: int
    frame_samples: int

    def feed(self, samples: Tensor) -> Tensor:
        """Probabilities of speech (T,), T >= 0, in the next frames; samples (n,) in [-1, 1]."""

    def finish(self) -> Tensor:
        """Probabilities of speech (T,) in all other frames of the recording."""


def best_detector(sampling_rate: int) -> VoiceActivity:
    """A detector at that many hertz: Silero's where its package is installed and knows the rate, else `EnergyVAD`."""
    from s2s.audio.silero import SAMPLING_RATES, SileroVAD

    if sampling_rate in SAMPLING_RATES and find_spec("silero_vad"):
        return SileroVAD(sampling_rate)
    return EnergyVAD(sampling_rate)


class EnergyVAD:
    """Speech is what rises over the noise of the 8 s before and after, in octaves, each against its own noise.

    A band's noise is the power that a tenth of the frames stay below (Stahl et al. 2000: noise by quantiles), at least
    what is inaudible beside the loud frames. With r the power over the noise, its mean over the bands, a frame is
    speech with probability r^2 / (r^2 + d^2). Steady noise and hum of any level are none; music is speech, and so is a
    new noise until it has lasted some seconds: hearing noise costs less than losing words.
    Raises UserError for a sampling rate below 2000 Hz.
    """

    def __init__(self, sampling_rate: int = 16000) -> None:
        if sampling_rate < 2000:
            raise UserError(f"voice activity: sampling_rate is {sampling_rate}, expected at least 2000 Hz")
        self.sampling_rate, self.frame_samples = sampling_rate, round(FRAME * sampling_rate)
        self._window = torch.hann_window(self.frame_samples + self.frame_samples // 2)
        frequencies = torch.fft.rfftfreq(len(self._window), 1 / sampling_rate)
        edges = torch.tensor([edge for edge in _EDGES if edge < sampling_rate / 2])
        bands = torch.bucketize(frequencies, edges, right=True)  # 0 is below the first, and above 6400 Hz none of them
        count = min(len(edges), len(_EDGES) - 1)
        self._bands = (bands[:, None] == torch.arange(1, count + 1)).float()  # (frequencies, bands)
        self._bands *= 2 / (len(self._window) * self._window.square().sum())  # to mean squares
        self._start()

    def _start(self) -> None:
        self._samples = Regrouped(_GROUP * self.frame_samples)
        self._before = torch.zeros(self.frame_samples // 2)
        self._groups: deque[Tensor] = deque()  # powers (frames, bands)
        self._done = 0  # of those, how many had their probabilities

    def feed(self, samples: Tensor) -> Tensor:
        """Probabilities (T,), T >= 0, in the frames that lie 8 s before the end of the samples (n,), in [-1, 1]."""
        found = [torch.zeros(0)]
        for group in self._samples.feed(samples):
            self._groups.append(self._powers(group))
            if len(self._groups) - self._done > _REACH:
                found.append(self._next())
        return torch.cat(found)

    def finish(self) -> Tensor:
        """Probabilities (T,) in the other frames; the next `feed` starts a new recording."""
        rest = self._samples.finish()
        if len(rest):
            self._groups.append(self._powers(F.pad(rest, (0, -len(rest) % self.frame_samples))))
        found = [torch.zeros(0)]
        while self._done < len(self._groups):
            found.append(self._next())
        self._start()
        return torch.cat(found)

    def _powers(self, samples: Tensor) -> Tensor:
        """Mean squares (frames, bands) under a window over each frame and the half frame before it."""
        samples = torch.cat([self._before, samples])
        self._before = samples[-len(self._before) :]
        spectrum = torch.fft.rfft(samples.unfold(0, len(self._window), self.frame_samples) * self._window)
        return spectrum.abs().square() @ self._bands

    def _next(self) -> Tensor:
        """Probabilities (frames,) of the next group."""
        powers = torch.cat(list(self._groups)).T
        powers = F.avg_pool1d(powers[None], 3, stride=1, padding=1, count_include_pad=False)[0]  # (bands, frames)
        quiet, loud = torch.quantile(powers, torch.tensor([_QUIET, _LOUD]), dim=1)
        noise = torch.maximum(_STEADY * quiet, _RANGE * loud).clamp(min=_SILENCE)
        group = powers[:, self._done * _GROUP : (self._done + 1) * _GROUP]
        ratio = (group / noise[:, None]).mean(dim=0).square()
        if self._done < _REACH:
            self._done += 1
        else:
            self._groups.popleft()
        return ratio / (ratio + _DOUBT**2)


class Regrouped:
    """Samples that arrive in pieces of any size, in groups of one size; holds less than a group between calls."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._rest: list[Tensor] = []

    def feed(self, samples: Tensor) -> tuple[Tensor, ...]:
        """The groups (size,), float32 on the CPU, that the samples (n,) complete."""
        if samples.dim() != 1 or not samples.is_floating_point():
            raise ValueError(f"expected floating-point samples (n,), got {samples.dtype} {tuple(samples.shape)}")
        self._rest.append(samples.detach().float().cpu())
        count = sum(map(len, self._rest)) // self.size
        if count == 0:
            return ()
        joined = torch.cat(self._rest)
        self._rest = [joined[count * self.size :].clone()]  # clone: frees the groups
        return joined[: count * self.size].split(self.size)

    def finish(self) -> Tensor:
        """The samples left, fewer than a group; the next `feed` starts anew."""
        rest = torch.cat([torch.zeros(0), *self._rest])
        self._rest = []
        return rest
