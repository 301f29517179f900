"""From a decoding config and a model to a search over streams."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from s2s.decoding.build import build_search
from s2s.decoding.config import DecodingConfig
from s2s.decoding.ctc import CTCGreedySearch
from s2s.decoding.ctc_beam import CTCPrefixBeamSearch
from s2s.decoding.engine import LabelSearch
from s2s.decoding.hypothesis import Search
from s2s.decoding.rescoring import RescoringSearch
from s2s.decoding.segmental import SegmentalSearch
from s2s.decoding.streaming.block_joint import BlockJointSearch
from s2s.decoding.streaming.ctc_greedy import StreamingCTCGreedySearch
from s2s.decoding.streaming.ctc_prefix import StreamingCTCPrefixSearch
from s2s.decoding.streaming.monotonic import MonotonicSearch
from s2s.decoding.streaming.partial import StreamingSearch
from s2s.decoding.streaming.segmental import StreamingSegmentalSearch
from s2s.decoding.streaming.two_pass import TwoPassSearch
from s2s.errors import UserError
from s2s.models.hybrid import HybridModel
from s2s.tokenizers.base import Tokenizer

BLOCK_SIZE = 16  # frames, where the config has no chunks


def build_streaming_search(config: DecodingConfig, model: HybridModel, tokenizer: Tokenizer) -> StreamingSearch[Any]:
    """The search over streams that finds what `build_search` of the same config finds.

    CTC and segmental searches are carried on, a beam with a CTC weight goes block by block, the encoder's chunks being
    the blocks, a decoder whose heads stop token by token, and with `rescore` a second pass follows. Token frames are
    always known.
    Raises UserError for what only whole utterances can be decoded with, and as `build_search` does.
    """
    _check(config)
    return _streaming(build_search(replace(config, token_times=False), [model], tokenizer), config, model)


def _check(config: DecodingConfig) -> None:
    """Refuse what cannot be streamed."""
    refused = {
        f"search={config.search}": config.search == "sampling",
        f"ensemble={config.ensemble}": bool(config.ensemble),
        f"mbr={config.mbr}": config.mbr is not None,
        f"max_compression_ratio={config.max_compression_ratio}": config.max_compression_ratio is not None,
        f"coverage_beta={config.coverage_beta}": config.coverage_beta != 0.0,
        "attention=true": config.attention,
    }
    for name, is_asked in refused.items():
        if is_asked:
            raise UserError(f"decoding.{name}: is for whole utterances, not for a stream; leave it out")
    if config.search == "beam" and config.ctc_weight == 0.0:
        raise UserError(
            "decoding.ctc_weight=0.0: expected more than 0 for a stream, since it is CTC that tells how far the text "
            "may go; with the attention decoder alone, choose a policy"
        )


def _streaming(search: Search, config: DecodingConfig, model: HybridModel) -> StreamingSearch[Any]:
    if isinstance(search, RescoringSearch):
        return TwoPassSearch(_streaming(search.first, config, model), search)
    if isinstance(search, CTCGreedySearch):
        return StreamingCTCGreedySearch(search.ctc)
    if isinstance(search, CTCPrefixBeamSearch):
        return StreamingCTCPrefixSearch(search)
    if isinstance(search, SegmentalSearch):
        return StreamingSegmentalSearch(search)
    assert isinstance(search, LabelSearch)
    if config.search == "monotonic":
        return MonotonicSearch(search, model.decoder)
    return BlockJointSearch(search, model.ctc, config.chunk_size or BLOCK_SIZE)
