"""Whisper's log-mel features, in torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from s2s.audio.fbank import IntOrTensor
from s2s.errors import UserError

_FLOOR = 1e-10
_RANGE = 8.0  # powers of ten below an utterance's loudest value: what is quieter becomes this
_BLOCK_CPU, _BLOCK_GPU = 1 << 11, 1 << 16  # frames at once, all utterances together: the cache's size; bounded memory


@dataclass(frozen=True)
class LogMelConfig:
    """Options of `LogMel`; the defaults are Whisper's, whose large-v3 has 128 bins.

    Attributes:
        sampling_rate: hertz.
        num_mel_bins: F.
        frame_length: seconds.
        frame_shift: seconds, at most `frame_length`.

    Raises UserError where a value is out of its range.
    """

    sampling_rate: int = 16000
    num_mel_bins: int = 80
    frame_length: float = 0.025
    frame_shift: float = 0.010

    def __post_init__(self) -> None:
        def check(holds: bool, name: str, expected: str) -> None:
            if not holds:
                raise UserError(f"log_mel: {name} is {getattr(self, name)}, expected {expected}")

        check(self.sampling_rate > 0, "sampling_rate", "a positive number of hertz")
        check(self.num_mel_bins > 0, "num_mel_bins", "at least 1")
        check(self.window_samples >= 2, "frame_length", f"at least {2 / self.sampling_rate:g} s (two samples)")
        check(self.shift_samples >= 1, "frame_shift", f"at least {1 / self.sampling_rate:g} s (one sample)")
        check(self.shift_samples <= self.window_samples, "frame_shift", f"at most frame_length ({self.frame_length} s)")

    @property
    def window_samples(self) -> int:
        return int(self.sampling_rate * self.frame_length + 1e-6)

    @property
    def shift_samples(self) -> int:
        return int(self.sampling_rate * self.frame_shift + 1e-6)


class LogMel(nn.Module):
    """Log-mel features of waveforms as Whisper takes them (Radford et al. 2022, section 2.2).

    Per frame: periodic Hann window, power spectrum, Slaney's triangular filters, base-10 logarithm with a floor at
    1e-10; then at least the utterance's own maximum minus 8, and (x + 4) / 4. Frame i is centred on sample i * shift of
    the utterance, which is reflected at its own ends. Whisper hears 30 s: its caller appends the silence.
    Always computed in float32, under autocast and after `.half()` too.
    Raises UserError where `num_mel_bins` is so large that a filter holds no frequency of the spectrum.
    """

    window: Tensor
    filters: Tensor

    def __init__(self, config: LogMelConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or LogMelConfig()
        window = torch.hann_window(config.window_samples, periodic=True, dtype=torch.float64)
        self.register_buffer("window", window.float(), persistent=False)
        self.register_buffer("filters", _checked_filters(config).float(), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> LogMel:
        # Follow moves between devices, but not `.half()` and `.bfloat16()`: they would spoil the filters for good.
        super()._apply(lambda tensor: tensor.to(fn(tensor).device), recurse)
        return self

    def num_frames(self, num_samples: IntOrTensor) -> IntOrTensor:
        """Frames in an utterance of that many samples, for a number or for a tensor of them."""
        return num_samples // self.config.shift_samples

    def forward(self, samples: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B,S,F) in float32 and their lengths (B,) from samples (B,n) in [-1, 1] and lengths (B,).

        What lies beyond an utterance's length changes nothing; frames beyond its feature length are zero.
        """
        if not samples.is_floating_point():
            raise UserError(f"log_mel: samples are {samples.dtype}, expected floating point in [-1, 1]")
        config, feature_lengths = self.config, self.num_frames(lengths)
        B, S = len(samples), self.num_frames(samples.shape[1])
        if B == 0 or S == 0:
            return samples.new_zeros(B, S, config.num_mel_bins, dtype=torch.float32), feature_lengths
        with torch.autocast(samples.device.type, enabled=False):
            samples = _reflect(samples.float(), lengths.to(samples.device), config.window_samples // 2)
            frames = samples.unfold(1, config.window_samples, config.shift_samples)[:, :S]  # (B,S,window), a view
            step = max(1, (_BLOCK_CPU if samples.device.type == "cpu" else _BLOCK_GPU) // B)
            features = torch.cat([self._log_mel(block) for block in frames.split(step, dim=1)], dim=1)
            padding = torch.arange(S, device=samples.device) >= feature_lengths.to(samples.device)[:, None]
            features.masked_fill_(padding[..., None], -math.inf)
            lowest = features.amax(dim=(1, 2), keepdim=True) - _RANGE
            features = (features.maximum(lowest) + 4) / 4
        return features.masked_fill_(padding[..., None], 0.0), feature_lengths

    def _log_mel(self, frames: Tensor) -> Tensor:
        """Base-10 logarithms (B,S,F) of frames (B,S,window)."""
        spectrum = torch.fft.rfft(frames * self.window)
        power = spectrum.real.square() + spectrum.imag.square()
        return (power @ self.filters).clamp_(min=_FLOOR).log10_()


def _reflect(samples: Tensor, lengths: Tensor, margin: int) -> Tensor:
    """Samples (B,margin+n+margin) whose utterances go on for `margin` beyond both their own ends, reflected there."""
    extended = F.pad(samples, (margin, margin))
    last = lengths.clamp(min=1)[:, None] - 1
    beyond = torch.arange(margin, device=samples.device)
    place = torch.cat([(beyond - margin).expand(len(samples), -1), last + 1 + beyond], dim=1)  # 0 is the first sample
    turn = place % (2 * last).clamp(min=1)  # a reflected signal repeats; its end samples are not doubled
    return extended.scatter_(1, place + margin, samples.gather(1, turn.minimum(2 * last - turn).clamp(min=0)))


def slaney_filters(config: LogMelConfig) -> Tensor:
    """Mel filters (window_samples / 2 + 1, F) in float64: triangles of equal area over 0 Hz to half the sampling rate.

    The mel scale of Slaney's Auditory Toolbox (1998): linear to 1000 Hz, 15 mels there, then 27 steps for a factor 6.4.
    """
    nyquist, per_mel, log_step = config.sampling_rate / 2, 200 / 3, math.log(6.4) / 27
    top = nyquist / per_mel if nyquist < 1000 else 15 + math.log(nyquist / 1000) / log_step
    mel = torch.linspace(0, top, config.num_mel_bins + 2, dtype=torch.float64)
    edges = torch.where(mel < 15, mel * per_mel, 1000 * ((mel - 15) * log_step).exp())  # hertz
    hertz = torch.arange(config.window_samples // 2 + 1, dtype=torch.float64) * (
        config.sampling_rate / config.window_samples
    )
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    rising, falling = (hertz[:, None] - low) / (centre - low), (high - hertz[:, None]) / (high - centre)
    return rising.minimum(falling).clamp(min=0) * (2 / (high - low))


def _checked_filters(config: LogMelConfig) -> Tensor:
    def is_full(filters: Tensor) -> bool:
        return bool((filters.amax(dim=0) > 0).all())

    filters = slaney_filters(config)
    if is_full(filters):
        return filters
    allowed = config.num_mel_bins - 1
    while allowed and not is_full(slaney_filters(replace(config, num_mel_bins=allowed))):
        allowed -= 1
    advice = f"use at most {allowed}, or a longer frame_length" if allowed else "use a longer frame_length"
    raise UserError(
        f"log_mel: num_mel_bins is {config.num_mel_bins}, too many for a spectrum of {len(filters)} points: "
        f"a filter would be empty; {advice}"
    )
