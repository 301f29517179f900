"""Mean and variance normalisation of features."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from s2s.errors import UserError


class FeatureStatistics:
    """Mean and variance of feature matrices, summed in float64.

    Args:
        num_bins: F.
        variance_floor: least variance, so that a constant bin does not divide by zero.
    """

    def __init__(self, num_bins: int, variance_floor: float = 1e-5) -> None:
        self.count = 0
        self.sum = torch.zeros(num_bins, dtype=torch.float64)
        self.sum_squares = torch.zeros(num_bins, dtype=torch.float64)
        self.variance_floor = variance_floor

    def add(self, features: Tensor) -> None:
        """Add the frames of one utterance (S,F), without padding. Raises UserError where they are not finite."""
        if features.dim() != 2 or features.shape[1] != len(self.sum):
            raise UserError(f"features have the shape {tuple(features.shape)}, expected (frames, {len(self.sum)} bins)")
        features = features.detach().to("cpu", torch.float64)
        if not bool(features.isfinite().all()):
            raise UserError("features hold values that are not finite; find the utterance and leave it out")
        self.count += len(features)
        self.sum += features.sum(dim=0)
        self.sum_squares += features.square().sum(dim=0)

    @property
    def mean(self) -> Tensor:
        """Mean (F,), float64. Raises UserError where no frame was added."""
        self._require_frames()
        return self.sum / self.count

    @property
    def inverse_std(self) -> Tensor:
        """One over the standard deviation (F,), float64. Raises UserError where no frame was added."""
        self._require_frames()
        variance = self.sum_squares / self.count - self.mean.square()
        return variance.clamp(min=self.variance_floor).rsqrt()

    def _require_frames(self) -> None:
        if self.count == 0:
            raise UserError("feature statistics of no frames; give at least one utterance that is longer than a frame")


class GlobalNormalise(nn.Module):
    """Subtract a mean and divide by a standard deviation measured over a corpus; both are saved with the model.

    Changes nothing but the padding before `set_statistics` or a state dict is loaded.
    """

    mean: Tensor
    inverse_std: Tensor

    def __init__(self, num_bins: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(num_bins))
        self.register_buffer("inverse_std", torch.ones(num_bins))

    def set_statistics(self, statistics: FeatureStatistics) -> None:
        """Take the corpus's statistics. Raises UserError where their number of bins is another or they are empty."""
        if len(statistics.sum) != len(self.mean):
            raise UserError(f"statistics are of {len(statistics.sum)} bins, expected {len(self.mean)}")
        self.mean.copy_(statistics.mean)
        self.inverse_std.copy_(statistics.inverse_std)

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Normalised features (B,S,F), zero beyond lengths (B,) whatever the padding held."""
        return ((features - self.mean) * self.inverse_std).masked_fill(_padding(features, lengths), 0.0)


class UtteranceNormalise(nn.Module):
    """Give each bin of each utterance zero mean and unit variance over the utterance's own frames.

    Args:
        num_bins: F.
        variance_floor: least variance: a bin that never changes comes out as zeros.
    """

    def __init__(self, num_bins: int, variance_floor: float = 1e-5) -> None:
        super().__init__()
        self.num_bins = num_bins
        self.variance_floor = variance_floor

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Normalised features (B,S,F), zero beyond lengths (B,) whatever the padding held."""
        padding = _padding(features, lengths)
        count = lengths.to(features.device).clamp(min=1)[:, None, None]
        mean = features.masked_fill(padding, 0.0).sum(dim=1, keepdim=True) / count
        centred = (features - mean).masked_fill(padding, 0.0)
        variance = centred.square().sum(dim=1, keepdim=True) / count
        return centred * variance.clamp(min=self.variance_floor).rsqrt()


def _padding(features: Tensor, lengths: Tensor) -> Tensor:
    """True (B,S,1) where a frame lies beyond its utterance."""
    frame = torch.arange(features.shape[1], device=features.device)
    return (frame >= lengths.to(features.device)[:, None])[..., None]
