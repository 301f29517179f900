"""Attention: projections, positions, weighting and reach, each a part one can exchange."""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING

import torch
from entmax import entmax15, sparsemax
from torch import Tensor, nn

from s2s.errors import UserError
from s2s.nn.attention.alibi import ALiBi
from s2s.nn.attention.config import AttentionConfig
from s2s.nn.attention.head_mask import HeadMask
from s2s.nn.attention.keys_only import KeysOnly
from s2s.nn.attention.mixture import Mixture
from s2s.nn.attention.multi_head import Cached, MultiHead
from s2s.nn.attention.reach import Reach, build_reach
from s2s.nn.attention.rectified import Rectified
from s2s.nn.attention.relative import Relative
from s2s.nn.attention.relaxed import Relaxed
from s2s.nn.attention.rotary import Rotary
from s2s.nn.attention.scores import both, mixed, side_by_side
from s2s.nn.attention.softmax import Softmax
from s2s.nn.attention.sparse import Entmax, Sparse
from s2s.nn.attention.stop import Stop, Stops
from s2s.nn.attention.strided import build_strided
from s2s.nn.attention.temporal_latent import TemporalLatent
from s2s.nn.attention.weighted_grouped import WeightedGrouped
from s2s.nn.dropout import dropped

if TYPE_CHECKING:
    from s2s.nn.attention.cache import HypothesisCache

BLOCK_SIZE = 512  # queries whose scores are made at once, where they are made at all


class Attention(nn.Module):
    """Attention of queries (B,U,D) to frames or tokens (B,T,D), made of the parts that `config` names.

    `positions` is how it knows where things are: "relative", "rotary" or "alibi"; any other value leaves that to what
    is added to the input. `over_memory`: of a decoder to a memory.
    """

    def __init__(
        self,
        model_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        config: AttentionConfig | None = None,
        positions: str = "none",
        over_memory: bool = False,
        block_size: int = BLOCK_SIZE,
    ) -> None:
        super().__init__()
        config = config or AttentionConfig()
        self.config, self.dropout, self.block_size = config, dropout, block_size
        self.heads = _projection(config, model_dim, num_heads)
        self.num_heads: int = self.heads.num_heads
        self.scheme = _scheme(positions, model_dim, self.heads)
        self.weighting = _weighting(config, self.heads)
        self.gates = nn.ModuleList(_gates(config, model_dim, self.heads))
        self.head_gates: Tensor | None = None  # (H,) factors of the heads, for whoever asks how much they matter
        self.reach: Reach = build_reach(config)
        if over_memory:
            _check_over_memory(config)
        elif config.reach == "strided":
            raise UserError("reach=strided: is for cross-attention; expected full, limited or chunked")
        elif config.kind == "monotonic":
            raise UserError(
                "kind=monotonic: is for the cross-attention of a decoder to what it hears; expected another"
            )
        self.over_memory, self.strided = over_memory, build_strided(config, self.heads)
        self.stop = Stop(config, model_dim, self.heads) if config.kind == "monotonic" else None

    def project(self, x: Tensor, positions: Tensor | None = None) -> Cached:
        """x (B,T,D) at positions (T,) or (B,T) -> what is kept of it to be attended to, (B,H',T',d') each."""
        cached = self.heads.cached(x, positions)
        if positions is not None:
            return self._placed(cached, positions)
        if self.stop is not None:
            return (*cached, *self.stop.cached(x))
        return cached if self.strided is None else tuple(map(self.strided.frames, cached))

    def cached_shapes(self) -> list[tuple[int, int]]:
        """(H',d') of each tensor that `project` gives."""
        return self.heads.cached_shapes() + ([] if self.stop is None else self.stop.cached_shapes())

    def within(self, x: Tensor, bias: Tensor | None = None, causal: bool = False, reach: Reach | None = None) -> Tensor:
        """Attention of x (B,T,D) to itself, with a `bias` (B,1,1,T) over keys as in `Softmax.forward`, -> (B,T,D).

        A `reach` takes the place of its own. Where scores have to be made, they are of a block of queries at a time, so
        memory grows with T and not with T².
        """
        positions = torch.arange(x.size(1), device=x.device)
        query = self._queries(x, positions)
        kept = self.heads.whole(self.project(x, positions))
        keys, values = self.heads.keys_values(*kept, num_queries=x.size(1))
        if reach is not None or self.config.above is None:
            return self._join(x, self._blocks(query, keys, values, bias, reach or self.reach, causal))
        return self._join(x, self._by_length(query, keys, values, bias, causal, self.config.above))

    def _by_length(
        self, query: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None, causal: bool, above: int
    ) -> Tensor:
        """Longer utterances than `above` by the reach, the others in full, whatever batch they are in."""
        size, num_frames = query.size(0), query.size(2)
        shown = query.new_ones(size, num_frames) if bias is None else _shown(bias).expand(size, 1, 1, -1)[:, 0, 0]
        is_long = shown.sum(dim=-1) > above
        if torch.compiler.is_compiling():  # what an export does must not depend on the data
            near, full = (self._blocks(query, keys, values, bias, reach, causal) for reach in (self.reach, Reach()))
            return torch.where(is_long[:, None, None, None], near, full)
        result = query.new_zeros(*query.shape[:3], self.heads.head_dim)
        for reach, rows, most in ((self.reach, is_long, num_frames), (Reach(), ~is_long, min(above, num_frames))):
            if bool(rows.any()):
                own = None if bias is None else bias.expand(size, -1, -1, -1)[rows, :, :, :most]
                q, k, v = (part[rows, :, :most] for part in (query, keys, values))
                result[rows, :, :most] = self._blocks(q, k, v, own, reach, causal)
        if bool(is_long.any()):
            _say_once(f"utterances of more than {above} frames are attended to by reach={self.config.reach}")
        return result

    def _blocks(
        self, query: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None, reach: Reach, causal: bool
    ) -> Tensor:
        num_frames = query.size(2)
        fused = isinstance(self.weighting, Softmax | Relaxed) and not isinstance(self.scheme, ALiBi | Relative)
        whole = type(reach) is Reach and fused
        results = []
        for start, stop, stretches in reach.blocks(num_frames, max(num_frames, 1) if whole else self.block_size):
            rows = torch.arange(start, stop, device=query.device)
            columns = [torch.arange(low, high, device=query.device) for low, high in stretches]
            block = query[:, :, start:stop]
            biases = [
                both(self._bias(block, rows, each, reach, causal), None if bias is None else bias[..., low:high])
                for each, (low, high) in zip(columns, stretches, strict=True)
            ]
            k, v = (torch.cat([x[:, :, low:high] for low, high in stretches], dim=2) for x in (keys, values))
            results.append(self._attend(block, k, v, side_by_side(biases, columns))[0])
        return results[0] if len(results) == 1 else torch.cat(results, dim=2)

    def _bias(self, query: Tensor, rows: Tensor, columns: Tensor, reach: Reach, causal: bool) -> Tensor | None:
        """What positions say of queries at `rows` (U,) and keys at `columns` (T,), each in a row."""
        shown = reach.shown(rows, columns)
        if causal:
            shown = both(shown, columns <= rows.unsqueeze(-1))
        shown = both(shown, self.heads.shown(rows, columns))
        shown = None if shown is None else shown[None, None]
        return both(self._scores_of_positions(query, rows, columns), shown)

    def after(self, x: Tensor, cache: HypothesisCache, layer: int, mask: Tensor) -> Tensor:
        """Attention of new tokens x (B,U,D) to what `mask` (B,1,U,P) shows of a layer's cache, which they enter."""
        positions, slots = cache.new_positions, cache.used_slot_positions
        query = self._queries(x, positions)
        cached = cache.write(layer, self.heads.grown(self.project(x, positions), cache, layer, mask))
        shown = both(self.reach.shown(positions, slots), self.heads.shown(positions, slots))
        bias = both(self._scores_of_positions(query, positions, slots), mask)
        bias = both(bias, None if shown is None else shown.unsqueeze(1))
        keys, values = self.heads.keys_values(*cached, num_queries=x.size(1))
        return self._join(x, self._attend(query, keys, values, bias)[0])

    def onward(self, x: Tensor, past: Cached, shown: Tensor) -> tuple[Tensor, Cached]:
        """Attention of the next frames x (B,C,D) to P past ones and to themselves, those that `shown` (B,P+C) names.

        Returns (B,C,D), and the `past`, (B,H',P,d') each, of the frames that come next. What is kept of a frame does
        not say where it stands, since the first of the past stands at 0 every time.
        """
        kept = tuple(torch.cat(pair, dim=2) for pair in zip(past, self.heads.cached(x), strict=True))
        positions = torch.arange(shown.size(1), device=x.device)
        rows = positions[shown.size(1) - x.size(1) :]
        query = self._queries(x, rows)
        keys, values = self.heads.keys_values(*self._placed(kept, positions), num_queries=x.size(1))
        bias = both(self._scores_of_positions(query, rows, positions), shown[:, None, None])
        result = self._join(x, self._attend(query, keys, values, bias)[0])
        return result, tuple(each[:, :, x.size(1) :] for each in kept)

    def over(
        self,
        x: Tensor,
        cached: Cached,
        bias: Tensor | None,
        need_weights: bool = False,
        stops: Stops | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Attention of x (B,U,D) to a memory that `project` made -> (B,U,D) and, on request, weights (B,H,U,T).

        Where heads stop, `stops` says from where they go on, and is told where they stopped; by default x are the first
        tokens of one row. Its weights are expectations in training, unless these are tokens of a search.
        """
        if self.stop is not None:
            return self._until(self.stop, stops or Stops(), x, cached, bias, need_weights)
        keys, values = self.heads.keys_values(*cached, num_queries=x.size(1))
        own = bias if self.strided is None else self.strided.bias(bias, keys.size(2))
        result, weights = self._attend(self.heads.queries(x), keys, values, own, need_weights)
        if self.strided is not None and bias is not None and weights is not None:
            weights = self.strided.spread(weights, bias.size(-1))
        return self._join(x, result), weights

    def _until(
        self, stop: Stop, stops: Stops, x: Tensor, cached: Cached, bias: Tensor | None, need_weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        """As `over`, of heads that stop."""
        own = len(self.heads.cached_shapes())
        query, (keys, values) = self.heads.queries(x), self.heads.keys_values(*cached[:own], num_queries=x.size(1))
        real = keys.new_ones((1, 1, 1, keys.size(2)), dtype=torch.bool) if bias is None else _shown(bias)
        energies = stop.energies(x, query, keys, cached[own:], real)
        if not self.training or stops.before is not None:
            result, weights = self._attend(query, keys, values, both(bias, stop.shown(energies, stops)), need_weights)
            return self._join(x, result), weights
        weights = stop.expected(energies, query, keys, bias, stops).to(values.dtype)
        result = self.heads.found(mixed(dropped(weights, self.dropout), values))
        return self._join(x, result), weights if need_weights else None

    def _placed(self, cached: Cached, positions: Tensor) -> Cached:
        """What is kept of frames or tokens, with their positions (T,) or (B,T) put in."""
        if isinstance(self.scheme, Rotary):
            return (self.scheme.rotate(cached[0], positions), *cached[1:])
        return cached

    def _queries(self, x: Tensor, positions: Tensor) -> Tensor:
        query = self.heads.queries(x)
        return self.scheme.rotate(query, positions) if isinstance(self.scheme, Rotary) else query

    def _scores_of_positions(self, query: Tensor, query_positions: Tensor, key_positions: Tensor) -> Tensor | None:
        if isinstance(self.scheme, ALiBi | Relative):
            return self.scheme.bias(query, query_positions, key_positions)
        return None

    def _attend(
        self, query: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None, need_weights: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        if isinstance(self.scheme, Relative):
            query = self.scheme.content(query)
        dropout = self.dropout if self.training else 0.0
        result, weights = self.weighting(query, keys, values, bias, dropout, need_weights)
        return self.heads.found(result), weights

    def _join(self, x: Tensor, result: Tensor) -> Tensor:
        for gate in self.gates:
            result = gate(x, result)
        if self.head_gates is not None:
            result = result * self.head_gates[:, None, None]
        return self.heads.join(result)


def _shown(bias: Tensor) -> Tensor:
    return bias if bias.dtype == torch.bool else bias > float("-inf")


@functools.cache
def _say_once(text: str) -> None:
    logging.getLogger(__name__).warning(text)


def _projection(config: AttentionConfig, model_dim: int, num_heads: int) -> MultiHead:
    num_heads = config.num_heads or num_heads
    if config.projection == "weighted_grouped":
        return WeightedGrouped(model_dim, num_heads, config.kv_heads, config.head_dim, config.knocking)
    if config.projection == "keys_only":
        if config.kind == "rectified":
            raise UserError("projection=keys_only: kind=rectified has weights that do not sum to one; expected another")
        return KeysOnly(model_dim, num_heads, config.head_dim)
    if config.projection == "temporal_latent":
        return TemporalLatent(model_dim, num_heads, config.head_dim, config.latent_dim, config.latent_stride)
    return MultiHead(model_dim, num_heads, config.kv_heads, config.head_dim, config.knocking)


def _scheme(positions: str, model_dim: int, heads: MultiHead) -> nn.Module | None:
    if positions == "relative":
        return Relative(model_dim, heads.num_heads, heads.width)
    if positions == "rotary":
        if isinstance(heads, KeysOnly | TemporalLatent):
            raise UserError(
                "positions=rotary: turns the keys, and here values are made of what is kept of them; expected other "
                "positions, or another projection than keys_only and temporal_latent"
            )
        return Rotary(heads.head_dim)
    return ALiBi(heads.num_heads) if positions == "alibi" else None


def _weighting(config: AttentionConfig, heads: MultiHead) -> nn.Module:
    if config.kind == "relaxed":
        return Relaxed(config.gamma, config.gamma_std, config.relax_always)
    if config.kind == "sparsemax":
        return Sparse(sparsemax)
    if config.kind == "entmax15":
        return Sparse(entmax15)
    if config.kind == "entmax":
        return Sparse(Entmax(heads.num_heads))
    if config.kind == "rectified":
        return Rectified(heads.num_heads, heads.width)
    return Softmax()


def _gates(config: AttentionConfig, model_dim: int, heads: MultiHead) -> list[nn.Module]:
    """Modules that weigh what heads give: x (B,U,D), results (B,H,U,d) -> results."""
    gates: list[nn.Module] = []
    if config.masked_heads:
        gates.append(HeadMask(heads.num_heads, config.masked_heads))
    if config.active_heads:
        gates.append(Mixture(model_dim, heads.num_heads, config.active_heads, config.shared_heads))
    return gates


def _check_over_memory(config: AttentionConfig) -> None:
    if config.reach in ("limited", "chunked"):
        raise UserError(
            f"reach={config.reach}: queries of a cross-attention are not at the places of its keys; expected full or "
            "strided"
        )
    if config.kind == "monotonic" and config.reach == "strided":
        raise UserError("reach=strided: a head of kind=monotonic stops at any frame; expected full")
    if config.projection == "temporal_latent":
        raise UserError("projection=temporal_latent: is for self-attention; expected another one for cross-attention")
