"""From a decoding config and a model to a search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from s2s.conf import compose, to_dataclass
from s2s.decoding.beam import Beam
from s2s.decoding.ctc import CTCGreedySearch
from s2s.decoding.ctc_prefix import CTCPrefixScorer
from s2s.decoding.engine import LabelSearch
from s2s.decoding.hypothesis import Search
from s2s.decoding.limits import Limits
from s2s.decoding.scorers import CandidateScorer, DecoderScorer, LengthBonus, Scorer
from s2s.errors import UserError, nearest
from s2s.models.hybrid import HybridModel

SEARCHES = ("ctc_greedy", "beam")


@dataclass(frozen=True)
class DecodingConfig:
    """How to search.

    `search`: "ctc_greedy" (one pass, no attention decoder) or "beam" (greedy attention with `beam_size` 1).
    `ctc_weight`: share of the CTC prefix score in a beam, the attention decoder has the rest.
    `length_bonus`: reward per token. `nbest`: hypotheses returned. `max_length_ratio`: tokens per encoder frame at most.
    `max_batch_seconds`: audio decoded at once, padding counted.
    """

    search: str = "beam"
    beam_size: int = 10
    ctc_weight: float = 0.3
    length_bonus: float = 0.0
    nbest: int = 1
    max_length_ratio: float = 1.0
    max_batch_seconds: float = 120.0


@dataclass(frozen=True)
class DecodeConfig:
    """The root of the config that `s2s decode` and `s2s transcribe` compose."""

    decoding: DecodingConfig = field(default_factory=DecodingConfig)


def load_decoding_config(overrides: Sequence[str] = (), config_dir: str | Path | None = None) -> DecodingConfig:
    """The decoding that `overrides` such as "decoding=ctc_greedy" ask for; UserError names a bad key or value."""
    config: DecodeConfig = to_dataclass(compose("decode", DecodeConfig, overrides, config_dir))
    return config.decoding


def build_search(config: DecodingConfig, model: HybridModel) -> Search:
    """The search that `config` describes over the outputs of `model`; UserError for a value out of range."""
    if config.search not in SEARCHES:
        raise UserError(
            f"decoding.search={config.search}: expected one of {', '.join(SEARCHES)}.{nearest(config.search, SEARCHES)}"
        )
    if config.search == "ctc_greedy":
        return CTCGreedySearch(model.ctc)
    if not 0.0 <= config.ctc_weight <= 1.0:
        raise UserError(f"decoding.ctc_weight={config.ctc_weight}: expected a number from 0 to 1")
    scorers: dict[str, tuple[Scorer | CandidateScorer, float]] = {
        "attention": (DecoderScorer(model.decoder), 1.0 - config.ctc_weight),
        "ctc": (CTCPrefixScorer(model.ctc, model.bos_id, model.eos_id), config.ctc_weight),
        "length": (LengthBonus(model.vocab_size, model.eos_id), config.length_bonus),
    }
    return LabelSearch(
        scorers,
        Beam(config.beam_size),
        vocab_size=model.vocab_size,
        bos_id=model.bos_id,
        eos_id=model.eos_id,
        forbidden_ids=(model.blank_id, model.bos_id),
        nbest=config.nbest,
        limits=Limits(config.max_length_ratio),
    )
