"""Attention of a decoder to several sources."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from s2s.errors import UserError, nearest
from s2s.nn.attention.attention import Attention
from s2s.nn.attention.config import AttentionConfig
from s2s.nn.attention.multi_head import Cached
from s2s.nn.attention.scores import both
from s2s.nn.attention.stop import Stops

COMBINATIONS = ("serial", "parallel", "flat", "hierarchical")

Look = Callable[[Tensor, Cached, Tensor | None, bool, Stops | None], tuple[Tensor, Tensor | None]]
"""As `Attention.over`."""


@dataclass(frozen=True)
class SourcesConfig:
    """How a decoder attends to several sources (Libovický et al. 2018, arXiv:1811.04716, section 3).

    Attributes:
        num_sources: how many there are.
        combination: "serial" (one source after the other, each with a norm and a residual of its own), "parallel" (the
            sum of what each gives), "flat" (the frames of all are those of one), or "hierarchical" (attention over what
            each gives).
    """

    num_sources: int = 2
    combination: str = "hierarchical"

    def __post_init__(self) -> None:
        if self.num_sources < 2:
            raise UserError(f"num_sources={self.num_sources}: expected at least 2")
        if self.combination not in COMBINATIONS:
            raise UserError(
                f"combination={self.combination}: expected one of {', '.join(COMBINATIONS)}."
                f"{nearest(self.combination, COMBINATIONS)}"
            )


class MultiSource(nn.Module):
    """An `Attention` for each source, and where they are hierarchical one over what they give.

    The frames of all sources are in one memory, which says of each which source it is of; an attention sees those of
    its own. A source without frames gives zeros before the output projection.
    """

    stop = None  # no head stops in the memory

    def __init__(
        self, model_dim: int, num_heads: int, dropout: float, config: AttentionConfig | None, sources: SourcesConfig
    ) -> None:
        super().__init__()
        if config is not None and (config.kind == "monotonic" or config.reach != "full"):
            raise UserError(
                f"cross_attention: kind={config.kind}, reach={config.reach}: with several sources, expected another "
                "kind than monotonic, and reach=full"
            )
        self.config = sources
        self.attentions: list[Attention] = nn.ModuleList(  # type: ignore[assignment]
            Attention(model_dim, num_heads, dropout, config, over_memory=True) for _ in range(sources.num_sources)
        )
        self.num_heads = self.attentions[0].num_heads
        self.above: Attention | None = None
        if sources.combination == "hierarchical":
            self.above = Attention(model_dim, num_heads, dropout, over_memory=True)

    def project(self, x: Tensor, sources: Tensor | None) -> Cached:
        """x (B,T,D) of `sources` (B,T), None: all of the first -> what is kept of it, (B,H',T,d') each."""
        if sources is None:
            sources = torch.zeros(x.shape[:2], dtype=torch.long, device=x.device)
        number = sources[:, None, :, None]
        first, *others = (attention.project(x) for attention in self.attentions)
        for i, other in enumerate(others, start=1):
            first = tuple(torch.where(number == i, own, kept) for kept, own in zip(first, other, strict=True))
        return (*first, number)

    def looks(self) -> list[Look]:
        """What a layer does in turn: one thing, or to look at each source where they are serial."""
        if self.config.combination == "serial":
            return [partial(self._at, number) for number in range(len(self.attentions))]
        return [self._at_all]

    def _at(
        self,
        number: int,
        x: Tensor,
        cached: Cached,
        bias: Tensor | None,
        need_weights: bool = False,
        stops: Stops | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Attention of x (B,U,D) to the source of that number -> (B,U,D) and, on request, weights (B,H,U,T)."""
        *kept, numbers = cached
        shown = (numbers == number).transpose(-1, -2)  # (B,1,1,T)
        return self.attentions[number].over(x, tuple(kept), both(bias, shown), need_weights)

    def _at_all(
        self,
        x: Tensor,
        cached: Cached,
        bias: Tensor | None,
        need_weights: bool = False,
        stops: Stops | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """As `_at`, to all sources; the weights are shared out among them."""
        found = [self._at(number, x, cached, bias, need_weights) for number in range(len(self.attentions))]
        contexts = torch.stack([context for context, _ in found], dim=2)  # (B,U,n,D)
        if self.above is None:
            result, shares = contexts.sum(dim=2), contexts.new_full((*contexts.shape[:3],), 1.0 / len(found))
        else:
            query = x.reshape(-1, 1, x.size(-1))  # each has contexts of its own
            result, above = self.above.over(query, self.above.project(contexts.flatten(0, 1)), None, need_weights)
            result = result.view_as(x)
            shares = (
                contexts.new_zeros(contexts.shape[:3])
                if above is None
                else above.mean(dim=(1, 2)).view(contexts.shape[:3])
            )
        if not need_weights:
            return result, None
        weights = [each * shares[:, None, :, i, None] for i, (_, each) in enumerate(found) if each is not None]
        return result, torch.stack(weights).sum(dim=0)


def memory_attention(
    model_dim: int, num_heads: int, dropout: float, config: AttentionConfig | None, sources: SourcesConfig | None
) -> Attention | MultiSource:
    """A decoder's attention to a memory, of one source or of several; flat is that of one."""
    if sources is None or sources.combination == "flat":
        return Attention(model_dim, num_heads, dropout, config, over_memory=True)
    return MultiSource(model_dim, num_heads, dropout, config, sources)
