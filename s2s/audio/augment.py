"""SpecAugment: masks over time and frequency, and time warping."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from s2s.errors import UserError


@dataclass(frozen=True)
class SpecAugmentConfig:
    """Options of `SpecAugment`; the defaults are those of Conformer (Gulati et al. 2020, section 3.1).

    Attributes:
        num_freq_masks: frequency masks per utterance; 0 is off.
        freq_mask_width: bins, most that one mask covers; 27 is meant for 80 bins.
        num_time_masks: time masks per utterance; 0 is off.
        time_mask_width: frames, most that one mask covers.
        time_mask_ratio: most that one mask covers, as a share of the utterance's own frames.
        time_warp: frames, most that a point in the utterance moves; 0 is off.

    Raises UserError where a value is out of its range.
    """

    num_freq_masks: int = 2
    freq_mask_width: int = 27
    num_time_masks: int = 10
    time_mask_width: int = 100
    time_mask_ratio: float = 0.05
    time_warp: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) < 0:
                raise UserError(f"specaugment: {field.name} is {getattr(self, field.name)}, expected 0 or more")
        if self.time_mask_ratio > 1:
            raise UserError(f"specaugment: time_mask_ratio is {self.time_mask_ratio}, expected 0 to 1")


class SpecAugment:
    """SpecAugment (Park et al. 2019) on normalised features: what is masked becomes zero, their mean.

    A mask's width is uniform from 0 to its most, its place uniform over where it fits; masks may overlap and differ
    from utterance to utterance. Padding stays as it was.
    """

    def __init__(self, config: SpecAugmentConfig | None = None) -> None:
        self.config = config or SpecAugmentConfig()

    def __call__(self, features: Tensor, lengths: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Augmented copy (B,S,F) of features (B,S,F) with lengths (B,); all chance comes from `generator`.

        A generator on the CPU gives the same masks whatever device the features are on.
        """
        config, (S, F) = self.config, features.shape[1:]
        device = generator.device if generator else features.device
        lengths = lengths.to(device)
        if config.time_warp:
            features = _time_warp(features, lengths, config.time_warp, generator)
        bins = torch.full_like(lengths, F)
        most_frames = (lengths * config.time_mask_ratio).long().clamp(max=config.time_mask_width)
        most_bins = bins.clamp(max=config.freq_mask_width)
        over_time = _masks(S, lengths, most_frames, config.num_time_masks, generator)
        over_freq = _masks(F, bins, most_bins, config.num_freq_masks, generator)
        valid = torch.arange(S, device=device) < lengths[:, None]
        masked = (over_time[:, :, None] | over_freq[:, None, :]) & valid[:, :, None]
        return features.masked_fill(masked.to(features.device), 0.0)


def _uniform(low: Tensor, high: Tensor, generator: torch.Generator | None) -> Tensor:
    """Whole numbers from `low` to `high`, both included, of their shape."""
    share = torch.rand(high.shape, generator=generator, device=high.device)
    return low + (share * (high - low + 1)).long().minimum(high - low)  # float32 may round the product up


def _masks(size: int, limit: Tensor, most: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    """True (B,size) under `count` masks, each at most `most` (B,) wide and inside `limit` (B,)."""
    limit, most = limit[:, None].expand(-1, count), most[:, None].expand(-1, count)
    width = _uniform(torch.zeros_like(most), most, generator)  # (B,count)
    start = _uniform(torch.zeros_like(most), limit - width, generator)
    place = torch.arange(size, device=limit.device)
    return ((place >= start[..., None]) & (place < (start + width)[..., None])).any(dim=1)


def _time_warp(features: Tensor, lengths: Tensor, window: int, generator: torch.Generator | None) -> Tensor:
    """Move one point of each utterance by at most `window` frames, stretching one side and squeezing the other.

    The ends stay in place; utterances too short for the window stay as they are. Between frames: linear interpolation.
    """
    last = lengths - 1
    fits = last >= 2 * window + 2
    low = torch.full_like(last, window + 1)
    source = _uniform(low, (last - window - 1).maximum(low), generator)
    target = source + _uniform(torch.full_like(last, -window), torch.full_like(last, window), generator)
    source, target, last, fits = (x.to(features.device)[:, None] for x in (source, target, last, fits))

    frame = torch.arange(features.shape[1], device=features.device)[None]  # (1,S)
    before = frame * (source / target)
    after = source + (frame - target) * ((last - source) / (last - target).clamp(min=1))
    position = torch.where(frame < target, before, after)
    position = torch.where(fits & (frame <= last), position.minimum(last).clamp(min=0), frame)  # (B,S)
    lower = position.floor().long()
    upper = (lower + 1).minimum(torch.where(frame <= last, last, frame))
    share = (position - lower)[..., None].to(features.dtype)

    def at(index: Tensor) -> Tensor:
        return features.gather(1, index[..., None].expand(-1, -1, features.shape[2]))

    return torch.where(share > 0, at(lower).lerp(at(upper), share), at(lower))
