"""What an attention is made of, as a config."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields

from s2s.errors import UserError, nearest

KINDS = ("softmax", "relaxed", "sparsemax", "entmax15", "entmax", "rectified", "monotonic")
LOOKBACKS = ("none", "chunk", "infinite")
PROJECTIONS = ("multi_head", "weighted_grouped", "keys_only", "temporal_latent")
REACHES = ("full", "limited", "chunked", "strided")
VALUES = {"kind": KINDS, "lookback": LOOKBACKS, "projection": PROJECTIONS, "reach": REACHES}
# A key that means something only with certain values of another one.
ONLY_WITH = {
    "gamma": ("kind", ("relaxed",)),
    "gamma_std": ("kind", ("relaxed",)),
    "relax_always": ("kind", ("relaxed",)),
    "lookback": ("kind", ("monotonic",)),
    "lookback_frames": ("lookback", ("chunk",)),
    "stop_bias": ("kind", ("monotonic",)),
    "stop_noise": ("kind", ("monotonic",)),
    "head_wait": ("kind", ("monotonic",)),
    "kv_heads": ("projection", ("multi_head", "weighted_grouped")),
    "knocking": ("projection", ("multi_head", "weighted_grouped")),
    "latent_dim": ("projection", ("temporal_latent",)),
    "latent_stride": ("projection", ("temporal_latent",)),
    "left": ("reach", ("limited",)),
    "right": ("reach", ("limited",)),
    "global_frames": ("reach", ("limited",)),
    "chunk_size": ("reach", ("chunked",)),
    "left_chunks": ("reach", ("chunked",)),
    "above": ("reach", ("limited", "chunked")),
    "stride": ("reach", ("strided",)),
}
LEAST = {
    "gamma": 0.0,
    "gamma_std": 0.0,
    "lookback_frames": 1,
    "stop_noise": 0.0,
    "head_wait": 0,
    "num_heads": 1,
    "head_dim": 1,
    "kv_heads": 1,
    "latent_dim": 1,
    "latent_stride": 1,
    "left": 0,
    "right": 0,
    "global_frames": 0,
    "chunk_size": 1,
    "left_chunks": 0,
    "above": 0,
    "stride": 1,
    "masked_heads": 0,
    "active_heads": 0,
    "shared_heads": 0,
}


@dataclass(frozen=True)
class AttentionConfig:
    """One attention of a layer; a value that the others leave without effect is refused.

    docs/attention.md has the equations, papers and costs.

    Attributes:
        kind: how scores become weights: "softmax", "relaxed", "sparsemax", "entmax15", "entmax" (learned α per head),
            "rectified" (ReLA), "monotonic" (of a cross-attention, whose heads stop at a frame and never go back).
        gamma, gamma_std, relax_always: share of the uniform distribution in relaxed attention, its standard deviation
            over batches (fuzzy), and whether it is there after training too.
        lookback, lookback_frames: what a monotonic head sees: "none" but the frame where it stops (hard, MMA-H), a
            "chunk" of `lookback_frames` up to there (MoChA), or "infinite", all up to there (MILk, MMA-IL, EMMA).
        stop_bias, stop_noise: r in p = sigmoid(e + r) to begin with, and the standard deviation of what is added to e
            in training, so that p comes to be 0 or 1.
        head_wait: heads stop at most so many frames after the first of their layer; null: whenever they want.
        num_heads, head_dim: heads, and the size of each; null: those of the layer, and D/H.
        projection: "multi_head", "weighted_grouped", "keys_only" (Slim attention), "temporal_latent" (MTLA).
        kv_heads: heads of keys and values that the heads share: 1 is multi-query; null: as many as heads.
        latent_dim, latent_stride: size of what is cached (null: of four heads), and how many tokens share an entry.
        knocking: heads exchange features by projections that all share.
        masked_heads: heads that are left out in training, other ones for every batch.
        active_heads, shared_heads: each frame chooses so many heads, besides the first few that all use; 0: all.
        reach: "full", "limited" to `left` and `right` frames and the first `global_frames`, "chunked" to its own chunk
            of `chunk_size` and `left_chunks` before it, or "strided": a head of a cross-attention sees one frame in
            `stride`.
        above: longer utterances only, in frames, are limited; null: all.
    """

    kind: str = "softmax"
    gamma: float = 0.1
    gamma_std: float = 0.0
    relax_always: bool = False
    lookback: str = "infinite"
    lookback_frames: int = 8
    stop_bias: float = -2.0
    stop_noise: float = 0.0
    head_wait: int | None = None
    num_heads: int | None = None
    head_dim: int | None = None
    projection: str = "multi_head"
    kv_heads: int | None = None
    latent_dim: int | None = None
    latent_stride: int = 2
    knocking: bool = False
    masked_heads: int = 0
    active_heads: int = 0
    shared_heads: int = 0
    reach: str = "full"
    left: int = 128
    right: int = 128
    global_frames: int = 0
    chunk_size: int = 16
    left_chunks: int | None = None
    above: int | None = None
    stride: int = 4

    def __post_init__(self) -> None:
        for key, values in VALUES.items():
            if (value := getattr(self, key)) not in values:
                raise UserError(f"{key}={value}: expected one of {', '.join(values)}.{nearest(str(value), values)}")
        for key, least in LEAST.items():
            value = getattr(self, key)
            if value is not None and value < least:
                raise UserError(f"{key}={value}: expected at least {least}")
        if self.gamma > 1.0:
            raise UserError(f"gamma={self.gamma}: expected a share, from 0 to 1")
        if self.shared_heads and not self.active_heads:
            raise UserError(f"shared_heads={self.shared_heads}: has no effect without active_heads; leave it out")
        for key in changed(self):
            other, values = ONLY_WITH.get(key, (key, (getattr(self, key),)))
            if getattr(self, other) not in values:
                raise UserError(
                    f"{key}={getattr(self, key)}: has no effect with {other}={getattr(self, other)}, only with "
                    f"{' or '.join(values)}; leave it out"
                )


Attentions = AttentionConfig | Sequence[AttentionConfig] | None


def of_decoder_layer(configs: Attentions, layer: int) -> AttentionConfig:
    """As `of_layer`, for attention of tokens to those before them; UserError for what needs to know the whole text."""
    config = _turn(configs, layer)
    if config.above is not None:
        raise UserError(f"above={config.above}: is for encoders; a decoder does not know how long its text will be")
    return config


def changed(config: AttentionConfig) -> list[str]:
    """The keys that are not at their default."""
    return [f.name for f in fields(config) if f.default is not MISSING and getattr(config, f.name) != f.default]


def of_layer(configs: Attentions, layer: int) -> AttentionConfig:
    """The config of a layer: several take turns, the first again after the last.

    For attention to all frames of an utterance; UserError for what is of tokens to those before them.
    """
    config = _turn(configs, layer)
    if config.projection == "temporal_latent":
        raise UserError(
            "projection=temporal_latent: is for the self-attention of decoders, of tokens to those before them; "
            "expected another one for encoders and cross-attention"
        )
    return config


def _turn(configs: Attentions, layer: int) -> AttentionConfig:
    if configs is None or isinstance(configs, AttentionConfig):
        return configs or AttentionConfig()
    if not configs:
        raise UserError("attention: an empty list; expected a config, or one for each layer")
    return configs[layer % len(configs)]
