"""Projections to queries, keys and values of several heads, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from s2s.errors import UserError
from s2s.nn.linear import Linear

if TYPE_CHECKING:
    from s2s.nn.attention.cache import HypothesisCache

Cached = tuple[Tensor, ...]  # (B,H',T,d') each: what is kept of frames or tokens that are attended to


class MultiHead(nn.Module):
    """Query, key, value and output projections of H heads: (B,U,D) <-> (B,H,U,d) (Vaswani et al. 2017, section 3.2.2).

    Fewer `kv_heads` than heads: each serves a group of heads (Ainslie et al. 2023, arXiv:2305.13245); one serves all
    (Shazeer 2019, arXiv:1911.02150).
    """

    stride = 1  # tokens that share an entry of what is kept

    def __init__(
        self,
        model_dim: int,
        num_heads: int,
        kv_heads: int | None = None,
        head_dim: int | None = None,
        knocking: bool = False,
    ) -> None:
        super().__init__()
        kv_heads = kv_heads or num_heads
        if head_dim is None and model_dim % num_heads:
            raise UserError(
                f"model_dim={model_dim} does not divide into num_heads={num_heads}: choose a multiple of the heads, "
                "or a head_dim"
            )
        if num_heads % kv_heads:
            raise UserError(f"kv_heads={kv_heads}: num_heads={num_heads} is no multiple of it")
        self.num_heads, self.kv_heads = num_heads, kv_heads
        self.head_dim = head_dim or model_dim // num_heads
        self.width = self.head_dim  # of the vectors that queries, keys and values meet as
        self.query = Linear(model_dim, num_heads * self.head_dim)
        self.key: nn.Module = Linear(model_dim, kv_heads * self.head_dim)
        self.value: nn.Module = Linear(model_dim, kv_heads * self.head_dim)
        self.out = Linear(num_heads * self.head_dim, model_dim)
        self.knock = Knocking(self.head_dim) if knocking else None

    def split(self, x: Tensor) -> Tensor:
        """(B,U,H*d) -> (B,H,U,d)"""
        return x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)

    def queries(self, x: Tensor) -> Tensor:
        """x (B,U,D) -> (B,H,U,d)"""
        query = self.split(self.query(x))
        return query if self.knock is None else self.knock.query(query)

    def cached(self, x: Tensor, positions: Tensor | None = None) -> Cached:
        """x (B,T,D) at positions (T,) or (B,T) -> what is kept of it, (B,H',T,d') each."""
        keys, values = self.split(self.key(x)), self.split(self.value(x))
        return (keys, values) if self.knock is None else (self.knock.key(keys), self.knock.value(values))

    def keys_values(self, *cached: Tensor, num_queries: int) -> tuple[Tensor, Tensor]:
        """Keys and values (B,H',T,d) of what was kept, to be attended to by so many queries."""
        keys, values = cached
        return keys, values

    def cached_shapes(self) -> list[tuple[int, int]]:
        """(H',d') of each tensor that is kept."""
        return [(self.kv_heads, self.head_dim)] * 2

    def shown(self, query_positions: Tensor, key_positions: Tensor) -> Tensor | None:
        """Which keys (..,T) a query (..,U) may attend to for the sake of the projection (..,U,T); None: all."""
        return None

    def whole(self, cached: Cached) -> Cached:
        """What is kept of whole sequences, of what `cached` gave for each of their frames or tokens."""
        return cached

    def grown(self, cached: Cached, cache: HypothesisCache, layer: int, mask: Tensor) -> Cached:
        """What is kept of new tokens, given what is kept of those before them, which `mask` (B,1,U,P) shows."""
        return cached

    def found(self, result: Tensor) -> Tensor:
        """What queries found, weighted sums of what `keys_values` gave as values (B,H,U,d') -> (B,H,U,d)."""
        return result

    def join(self, x: Tensor) -> Tensor:
        """(B,H,U,d) -> (B,U,D), projected."""
        return self.out(x.transpose(1, 2).flatten(2))


class Knocking(nn.Module):
    """Projections of queries, keys and values that all heads share (Zhou et al. 2025, arXiv:2510.23052, section 3).

    They begin as the identity, so that a head begins as without them.
    """

    def __init__(self, head_dim: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (Linear(head_dim, head_dim, bias=False) for _ in range(3))
        for projection in (self.query, self.key, self.value):
            nn.init.eye_(projection.weight)
