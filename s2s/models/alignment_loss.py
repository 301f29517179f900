"""Losses of how a decoder reads a memory: how late, how differently its heads, how surely, and whether forwards."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from s2s.errors import UserError, nearest
from s2s.nn.attention.monotonic import at_least_float32

MEASURES = ("average", "dal")


@dataclass(frozen=True)
class AlignmentLossConfig:
    """What is added to the cross-entropy of a decoder, each with its weight; 0: nothing.

    All are per token, and in shares of the memory: frames divided by how many an utterance has, variances by the square
    of that.

    Attributes:
        latency: of the delays of the heads that stop, later ones counting more.
        measure: "average", the mean delay, or "dal", differentiable average lagging behind an even speed.
        divergence: variance of the delays over all heads.
        variance: of the frame where a head stops.
        monotonic_penalty: how far the mean frame that a head looks at goes back from a token to the next, of layers
            whose heads do not stop.
    """

    latency: float = 0.0
    measure: str = "average"
    divergence: float = 0.0
    variance: float = 0.0
    monotonic_penalty: float = 0.0

    def __post_init__(self) -> None:
        if self.measure not in MEASURES:
            raise UserError(
                f"measure={self.measure}: expected {' or '.join(MEASURES)}.{nearest(self.measure, MEASURES)}"
            )
        for key in ("latency", "divergence", "variance", "monotonic_penalty"):
            if getattr(self, key) < 0.0:
                raise UserError(f"{key}={getattr(self, key)}: expected a weight, 0 or more")
        if self.measure != "average" and not self.latency:
            raise UserError(f"measure={self.measure}: has no effect without latency; leave it out")


class AlignmentLoss:
    """The losses of a decoder of so many layers, some of which (`stopping`) have heads that stop.

    Raises UserError for a loss of layers that it has not.
    """

    def __init__(self, config: AlignmentLossConfig, num_layers: int, stopping: Collection[int]) -> None:
        self.config = config
        for key in ("latency", "divergence", "variance"):
            if getattr(config, key) and not stopping:
                raise UserError(
                    f"alignment_loss.{key}={getattr(config, key)}: has no effect without heads that stop; give a "
                    "cross_attention kind=monotonic, or leave it out"
                )
        soft = [layer for layer in range(num_layers) if layer not in stopping]
        if config.monotonic_penalty and not soft:
            raise UserError(
                f"alignment_loss.monotonic_penalty={config.monotonic_penalty}: has no effect where all heads stop, "
                "since they never go back; leave it out"
            )
        self.weights_of = soft if config.monotonic_penalty else []  # the layers whose weights are needed

    def __call__(
        self, alignments: Sequence[Tensor], weights: Sequence[Tensor], counted: Tensor, lengths: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum, and each loss by its name.

        `alignments` (B,H,U,T) of all layers whose heads stop, `weights` (B,H,U,T) of those of `weights_of`, which
        tokens are `counted` (B,U), and how many frames the memories have, `lengths` (B,).
        """
        config, parts = self.config, {}
        if config.latency or config.divergence or config.variance:
            alignment = torch.cat(list(alignments), dim=1)
            delays = mean_frames(alignment) + 1  # frames that are read
            if config.latency:
                parts["latency"] = latency(delays, counted, lengths, config.measure)
            if config.divergence:
                parts["divergence"] = divergence(delays, counted, lengths)
            if config.variance:
                parts["variance"] = variance(alignment, counted, lengths)
        if config.monotonic_penalty:
            looked = torch.cat([mean_frames(each) for each in weights], dim=1)
            parts["monotonic_penalty"] = monotonic_penalty(looked, counted, lengths)
        total = sum(
            (getattr(config, key) * part for key, part in parts.items()), lengths.new_zeros((), dtype=torch.float32)
        )
        return total, parts


def mean_frames(weights: Tensor) -> Tensor:
    """Weights (B,H,U,T) that sum to one -> the mean of the frames, from 0 (B,H,U), at least float32."""
    weights = at_least_float32(weights)
    return weights @ torch.arange(weights.size(-1), device=weights.device, dtype=weights.dtype)


def latency(delays: Tensor, counted: Tensor, lengths: Tensor, measure: str) -> Tensor:
    """How late tokens are: delays g (B,H,U) of H heads, in frames; `counted` (B,U), `lengths` (B,) frames.

    Heads are weighed by a softmax of their delays (Ma et al. 2020, arXiv:1909.12406, section 2.3), since all must have
    stopped before there is a token. Of that g the mean of g_i / T; or differentiable average lagging (Cherry and Foster
    2019, arXiv:1906.00048), with r = T/U frames a token the mean of (g'_i - (i-1) r) / T, g'_i = max(g_i, g'_i-1 + r):
    the greatest g_k - (k-1) r so far.
    """
    late, lengths = (delays.softmax(dim=1) * delays).sum(dim=1), lengths.to(delays.dtype)  # (B,U), (B,)
    if measure == "dal":
        rate = lengths / counted.sum(dim=1).clamp(min=1)
        even = torch.arange(late.size(1), device=late.device) * rate.unsqueeze(1)
        late = (late - even).cummax(dim=1).values
    return _per_token(late / lengths.unsqueeze(1), counted)


def divergence(delays: Tensor, counted: Tensor, lengths: Tensor) -> Tensor:
    """The variance of delays (B,H,U) over the H heads (Ma et al. 2020, arXiv:1909.12406, section 2.3)."""
    return _per_token((delays / lengths[:, None, None]).var(dim=1, correction=0), counted)


def variance(alignment: Tensor, counted: Tensor, lengths: Tensor) -> Tensor:
    """The variance of the frame where a head stops, E[j²] - E[j]², of alignments (B,H,U,T) that sum to one.

    The mean over heads (EMMA: Ma et al. 2023, arXiv:2312.04515). Computed as E[(j - E[j])²], which is not negative.
    """
    frames = torch.arange(alignment.size(-1), device=alignment.device, dtype=alignment.dtype)
    spread = (alignment * (frames - mean_frames(alignment).unsqueeze(-1)).square()).sum(dim=-1)  # (B,H,U)
    return _per_token((spread / lengths[:, None, None].square()).mean(dim=1), counted)


def monotonic_penalty(looked: Tensor, counted: Tensor, lengths: Tensor) -> Tensor:
    """How far the mean frames m (B,H,U) that heads look at go back, max(0, m_i - m_i+1) / T, the mean over heads.

    Rios et al. 2021, "On biasing Transformer attention towards monotonicity", arXiv:2104.03945, without a margin.
    """
    back = (looked[..., :-1] - looked[..., 1:]).relu() / lengths[:, None, None]
    return back.mean(dim=1).masked_fill(~counted[:, 1:], 0.0).sum() / counted.sum()


def _per_token(values: Tensor, counted: Tensor) -> Tensor:
    """The mean of values (B,U) where `counted` (B,U)."""
    return values.masked_fill(~counted, 0.0).sum() / counted.sum()
