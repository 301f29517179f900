"""Log-mel filterbanks equal to Kaldi's, in torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor, nn

from s2s.errors import UserError, nearest

_FULL_SCALE = 32768.0  # Kaldi's samples are 16-bit integers
_FLOOR = torch.finfo(torch.float32).eps
_BLOCK_CPU, _BLOCK_GPU = 1 << 11, 1 << 16  # frames at once, all utterances together: the cache's size; bounded memory

WINDOWS: dict[str, Callable[[Tensor], Tensor]] = {  # of the phase 2 pi i / (N - 1)
    "povey": lambda phase: (0.5 - 0.5 * phase.cos()).clamp(min=0).pow(0.85),
    "hanning": lambda phase: 0.5 - 0.5 * phase.cos(),
    "hamming": lambda phase: 0.54 - 0.46 * phase.cos(),
    "rectangular": torch.ones_like,
}

IntOrTensor = TypeVar("IntOrTensor", int, Tensor)


@dataclass(frozen=True)
class FbankConfig:
    """Options of `Fbank`, with Kaldi's names and defaults.

    Attributes:
        sampling_rate: hertz.
        num_mel_bins: F.
        frame_length: seconds.
        frame_shift: seconds, at most `frame_length`.
        low_freq: hertz, lower edge of the first filter.
        high_freq: hertz, upper edge of the last filter; zero or less counts from the Nyquist frequency.
        preemphasis: 0 to 1.
        dither: standard deviation of the noise added in training, in 16-bit steps; 0 is none. Never in evaluation.
        window: povey, hanning, hamming or rectangular.
        snip_edges: whether only frames that lie inside the utterance are taken; else the number of frames is the
            number of shifts, rounded, and the signal is mirrored at the utterance's own ends.

    Raises UserError where a value is out of its range.
    """

    sampling_rate: int = 16000
    num_mel_bins: int = 80
    frame_length: float = 0.025
    frame_shift: float = 0.010
    low_freq: float = 20.0
    high_freq: float = 0.0
    preemphasis: float = 0.97
    dither: float = 0.0
    window: str = "povey"
    snip_edges: bool = True

    def __post_init__(self) -> None:
        def check(holds: bool, name: str, expected: str) -> None:
            if not holds:
                raise UserError(f"fbank: {name} is {getattr(self, name)}, expected {expected}")

        nyquist = self.sampling_rate / 2
        check(self.sampling_rate > 0, "sampling_rate", "a positive number of hertz")
        check(self.num_mel_bins > 0, "num_mel_bins", "at least 1")
        check(self.window_samples >= 2, "frame_length", f"at least {2 / self.sampling_rate:g} s (two samples)")
        check(self.shift_samples >= 1, "frame_shift", f"at least {1 / self.sampling_rate:g} s (one sample)")
        check(self.shift_samples <= self.window_samples, "frame_shift", f"at most frame_length ({self.frame_length} s)")
        check(0 <= self.low_freq < nyquist, "low_freq", f"0 to below {nyquist:g} Hz, half the sampling rate")
        check(
            self.low_freq < self.top_freq <= nyquist,
            "high_freq",
            f"above low_freq ({self.low_freq:g} Hz) and at most {nyquist:g} Hz, half the sampling rate; "
            "zero or less counts from there",
        )
        check(0 <= self.preemphasis <= 1, "preemphasis", "0 to 1")
        check(self.dither >= 0, "dither", "0 or more")
        check(self.window in WINDOWS, "window", f"one of {', '.join(WINDOWS)}.{nearest(self.window, WINDOWS)}")

    @property
    def window_samples(self) -> int:
        return int(self.sampling_rate * self.frame_length + 1e-6)

    @property
    def shift_samples(self) -> int:
        return int(self.sampling_rate * self.frame_shift + 1e-6)

    @property
    def fft_samples(self) -> int:
        """The window's length rounded up to a power of two."""
        return 1 << (self.window_samples - 1).bit_length()

    @property
    def top_freq(self) -> float:
        """`high_freq` in hertz, counted from zero."""
        return self.high_freq if self.high_freq > 0 else self.sampling_rate / 2 + self.high_freq


class Fbank(nn.Module):
    """Log-mel filterbank features of waveforms, as Kaldi's compute-fbank-feats gives them (no energy).

    Per frame: mean removed, pre-emphasis, window, power spectrum, triangular filters on the mel scale, natural log with
    a floor at the float32 epsilon. Always computed in float32, under autocast and after `.half()` too.
    Raises UserError where `num_mel_bins` is so large that a filter holds no frequency of the spectrum.
    """

    window: Tensor
    filters: Tensor

    def __init__(self, config: FbankConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or FbankConfig()
        phase = 2 * math.pi * torch.arange(config.window_samples, dtype=torch.float64) / (config.window_samples - 1)
        self.register_buffer("window", WINDOWS[config.window](phase).float(), persistent=False)
        self.register_buffer("filters", _checked_filters(config).float(), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Fbank:
        # Follow moves between devices, but not `.half()` and `.bfloat16()`: they would spoil the filters for good.
        super()._apply(lambda tensor: tensor.to(fn(tensor).device), recurse)
        return self

    def num_frames(self, num_samples: IntOrTensor) -> IntOrTensor:
        """Frames in an utterance of that many samples, for a number or for a tensor of them."""
        window, shift = self.config.window_samples, self.config.shift_samples
        if self.config.snip_edges:
            frames = (num_samples - window) // shift + 1  # negative for utterances shorter than a window
            return frames.clamp(min=0) if isinstance(frames, Tensor) else max(0, frames)
        return (num_samples + shift // 2) // shift

    def forward(self, samples: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B,S,F) in float32 and their lengths (B,) from samples (B,n) in [-1, 1] and lengths (B,).

        What lies beyond an utterance's length changes nothing; frames beyond its feature length are zero.
        """
        if not samples.is_floating_point():
            raise UserError(f"fbank: samples are {samples.dtype}, expected floating point in [-1, 1]")
        feature_lengths = self.num_frames(lengths)
        num_frames = self.num_frames(samples.shape[1])
        if num_frames == 0:
            return samples.new_zeros(
                samples.shape[0], 0, self.config.num_mel_bins, dtype=torch.float32
            ), feature_lengths
        with torch.autocast(samples.device.type, enabled=False):
            samples = samples.float() * _FULL_SCALE
            if not self.config.snip_edges:
                samples = self._mirror(samples, lengths, num_frames)
            frames = samples.unfold(1, self.config.window_samples, self.config.shift_samples)  # (B,S,window), a view
            step = max(1, (_BLOCK_CPU if samples.device.type == "cpu" else _BLOCK_GPU) // len(samples))
            features = torch.cat([self._log_mel(block) for block in frames.split(step, dim=1)], dim=1)
        padding = torch.arange(num_frames, device=samples.device) >= feature_lengths.to(samples.device)[:, None]
        return features.masked_fill(padding[..., None], 0.0), feature_lengths

    def _log_mel(self, frames: Tensor) -> Tensor:
        """Features (B,S,F) of frames (B,S,window)."""
        if self.training and self.config.dither:
            frames = frames + self.config.dither * torch.randn_like(frames)
        frames = frames - frames.mean(dim=-1, keepdim=True)
        previous = torch.cat([frames[..., :1], frames[..., :-1]], dim=-1)
        frames = (frames - self.config.preemphasis * previous) * self.window
        spectrum = torch.fft.rfft(frames, n=self.config.fft_samples)[..., :-1]  # Kaldi leaves the Nyquist bin out
        power = spectrum.real.square() + spectrum.imag.square()
        return (power @ self.filters).clamp(min=_FLOOR).log()

    def _mirror(self, samples: Tensor, lengths: Tensor, num_frames: int) -> Tensor:
        """Samples (B,(S-1)*shift+window) in which frame i is centred on the i-th shift, mirrored at both own ends."""
        window, shift = self.config.window_samples, self.config.shift_samples
        first = shift // 2 - window // 2
        position = first + torch.arange((num_frames - 1) * shift + window, device=samples.device)
        length = lengths.to(samples.device).clamp(min=1)[:, None]
        position = position % (2 * length)  # mirrored signals repeat with twice their length
        return samples.gather(1, torch.where(position < length, position, 2 * length - 1 - position))


def mel_filters(config: FbankConfig) -> Tensor:
    """Kaldi's triangular mel filters (fft_samples / 2, F) in float64: columns overlap by half on the mel scale."""

    def mel(hertz: Tensor) -> Tensor:
        return 1127.0 * (hertz / 700.0).log1p()

    hertz = torch.arange(config.fft_samples // 2, dtype=torch.float64) * (config.sampling_rate / config.fft_samples)
    low, high = mel(torch.tensor([config.low_freq, config.top_freq], dtype=torch.float64)).tolist()
    step = (high - low) / (config.num_mel_bins + 1)
    centre = low + step * torch.arange(1, config.num_mel_bins + 1, dtype=torch.float64)
    return (1 - (mel(hertz)[:, None] - centre).abs() / step).clamp(min=0)


def _checked_filters(config: FbankConfig) -> Tensor:
    filters = mel_filters(config)
    if bool((filters.amax(dim=0) > 0).all()):
        return filters
    allowed = config.num_mel_bins - 1
    while allowed and not bool((mel_filters(replace(config, num_mel_bins=allowed)).amax(dim=0) > 0).all()):
        allowed -= 1
    advice = f"use at most {allowed}, or a longer frame_length" if allowed else "use a longer frame_length"
    raise UserError(
        f"fbank: num_mel_bins is {config.num_mel_bins}, too many for {config.low_freq:g} to {config.top_freq:g} Hz in "
        f"a spectrum of {config.fft_samples // 2} points: a filter would be empty; {advice}"
    )
