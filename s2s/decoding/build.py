"""From a decoding config and models to a search."""

from __future__ import annotations

from collections.abc import Sequence

from s2s.decoding.annotate import AnnotatingSearch
from s2s.decoding.beam import Beam
from s2s.decoding.config import DecodingConfig
from s2s.decoding.ctc import CTCGreedySearch
from s2s.decoding.ctc_beam import CTCPrefixBeamSearch
from s2s.decoding.ctc_prefix import CTCPrefixScorer
from s2s.decoding.engine import LabelSearch, Policy
from s2s.decoding.ensemble import member
from s2s.decoding.hypothesis import Search
from s2s.decoding.internal_lm import InternalLMScorer, load_estimate
from s2s.decoding.limits import Limits
from s2s.decoding.mbr import MBRSearch
from s2s.decoding.normalisation import Normalisation
from s2s.decoding.repetition import LoopGuard
from s2s.decoding.rescoring import Rescorer, RescoringSearch
from s2s.decoding.sampling import Sampling
from s2s.decoding.scorers import DecoderScorer, Scorer
from s2s.decoding.segmental import SegmentalSearch
from s2s.decoding.text_scorers import (
    AnyModel,
    Scorers,
    constraints,
    fusion_scorers,
    language_model,
    ngram_scorer,
)
from s2s.decoding.whisper import TimestampTokens, WhisperScorer
from s2s.errors import UserError
from s2s.models.hybrid import HybridModel
from s2s.models.language_model import LanguageModel
from s2s.models.memory import AttentionDecoder
from s2s.models.segmental import SegmentalModel
from s2s.models.transformer_decoder import TransformerDecoder
from s2s.models.whisper import Whisper
from s2s.tokenizers.base import Tokenizer
from s2s.tokenizers.whisper import WhisperTokenizer

KEPT_APART = 32  # frames at which segments ended, whose hypotheses a segmental search keeps apart


def build_search(config: DecodingConfig, models: Sequence[AnyModel], tokenizer: Tokenizer) -> Search:
    """The search that `config` describes over the outputs of `models`, an ensemble where they are several.

    Raises UserError for a value out of range, for a file that cannot be read, for a language model or phrases that
    are not of the tokenizer's vocabulary, and for what asks for a CTC output, or heads that stop, where a model has
    none.
    """
    model = models[0]
    if not isinstance(model, HybridModel):
        _check_without_ctc(config)
    _check_segmental(config, models)
    if config.search == "monotonic" and not getattr(model.decoder, "stopping_heads", None):
        raise UserError(
            "decoding.search=monotonic: no head of this model's decoder stops; it is for a Transformer decoder with "
            "cross_attention.kind=monotonic. For this one choose another, such as beam"
        )
    if config.search in ("beam", "monotonic", "ctc_prefix") and config.beam_size > model.vocab_size:
        raise UserError(
            f"decoding.beam_size={config.beam_size}: expected 1 to {model.vocab_size}, the size of the vocabulary"
        )
    if not 1 <= config.nbest <= config.beam_size:
        raise UserError(f"decoding.nbest={config.nbest}: expected 1 to beam_size={config.beam_size}")
    lm = language_model(config, model, tokenizer)
    rescored = config.rescore or config.lm_rescoring
    passes = [rescored, config.mbr is not None, config.max_compression_ratio is not None]
    search = _first_pass(config, models, tokenizer, None if rescored else lm, _nbest(config, passes))
    if rescored:
        search = _rescoring(config, model, tokenizer, lm, search, _nbest(config, passes[1:]))
    if config.mbr is not None:
        weights = "uniform" if config.search == "sampling" else "score"
        nbest = _nbest(config, passes[2:])
        search = MBRSearch(search, tokenizer.decode, config.mbr, weights, config.mbr_temperature, nbest)
    if config.max_compression_ratio is not None:
        search = LoopGuard(search, tokenizer.decode, config.max_compression_ratio, config.nbest)
    token_times = config.token_times and config.search != "segmental"  # a segmental search knows them
    if token_times or config.attention:
        search = AnnotatingSearch(search, model, token_times, config.attention)
    return search


def _check_without_ctc(config: DecodingConfig) -> None:
    """Refuse what only a hybrid CTC/attention model can do."""
    wanted = {
        f"search={config.search}": config.search.startswith("ctc"),
        "rescore=true": config.rescore,
        "token_times=true": config.token_times,
        f"internal_lm_weight={config.internal_lm_weight}": config.internal_lm_weight != 0.0,
    }
    for name, is_wanted in wanted.items():
        if is_wanted:
            raise UserError(f"decoding.{name}: is for a model with a CTC output, this one has a decoder only")


def _check_segmental(config: DecodingConfig, models: Sequence[AnyModel]) -> None:
    """Refuse what a segmental decoder cannot do, and what only it can."""
    if not any(isinstance(model, SegmentalModel) for model in models):
        if config.search == "segmental":
            raise UserError(
                "decoding.search=segmental: this model's decoder is not segmental; choose another, such as beam"
            )
        return
    refused = {
        f"search={config.search}": config.search not in ("segmental", "ctc_greedy", "ctc_prefix"),
        "rescore=true": config.rescore,
        "attention=true": config.attention and config.search != "segmental",
    }
    for name, is_asked in refused.items():
        if is_asked:
            raise UserError(
                f"decoding.{name}: needs a decoder that goes from label to label, and this model's goes from frame to "
                "frame; choose decoding=segmental, or ctc_greedy or ctc_prefix without it"
            )


def _nbest(config: DecodingConfig, later_passes: Sequence[bool]) -> int:
    """How many hypotheses a pass returns: all that a later one may choose from."""
    return config.beam_size if any(later_passes) else config.nbest


def _first_pass(
    config: DecodingConfig,
    models: Sequence[AnyModel],
    tokenizer: Tokenizer,
    lm: LanguageModel | None,
    nbest: int,
) -> Search:
    model = models[0]
    if isinstance(model, SegmentalModel) and config.search == "segmental":
        apart = KEPT_APART if config.segment_search == "segmental" else 0
        return SegmentalSearch(model, config.beam_size, nbest, apart, config.recombine, config.beam_threshold)
    if isinstance(model, HybridModel) and config.search == "ctc_greedy":
        return CTCGreedySearch(model.ctc)
    if isinstance(model, HybridModel) and config.search == "ctc_prefix":
        return CTCPrefixBeamSearch(
            model.ctc,
            model.bos_id,
            model.eos_id,
            beam_size=config.beam_size,
            nbest=nbest,
            scorers=fusion_scorers(config, model, tokenizer, lm),
            num_candidates=config.num_candidates or 20,
        )
    return _label_search(config, models, tokenizer, lm, nbest)


def _label_search(
    config: DecodingConfig,
    models: Sequence[AnyModel],
    tokenizer: Tokenizer,
    lm: LanguageModel | None,
    nbest: int,
) -> LabelSearch:
    model = models[0]
    ctc_weight = config.ctc_weight if isinstance(model, HybridModel) else 0.0
    scorers: Scorers = {}
    for i, each in enumerate(models):
        number = str(i + 1) if i else ""
        attention = _attention_scorer(config, each, tokenizer, need_attention=config.coverage_beta > 0 and i == 0)
        scorers[f"attention{number}"] = member(attention, i), (1.0 - ctc_weight) / len(models)
        if isinstance(each, HybridModel):
            ctc = CTCPrefixScorer(each.ctc, each.bos_id, each.eos_id)
            scorers[f"ctc{number}"] = member(ctc, i), ctc_weight / len(models)
    if config.internal_lm_weight:
        internal = InternalLMScorer(_decoder(config, model), estimate=load_estimate(config.internal_lm))
        scorers["internal_lm"] = internal, -config.internal_lm_weight
    scorers |= fusion_scorers(config, model, tokenizer, lm)
    scorers |= constraints(config, model, tokenizer)
    policy: Policy
    if config.search == "sampling":
        policy = Sampling(
            config.beam_size, config.temperature, config.top_k, config.top_p, config.typical_p, config.seed
        )
    else:
        policy = Beam(config.beam_size, config.groups, config.diversity)
    return LabelSearch(
        scorers,
        policy,
        vocab_size=model.vocab_size,
        bos_id=model.bos_id,
        eos_id=model.eos_id,
        forbidden_ids=_never_output(model),
        nbest=nbest,
        limits=Limits(config.max_length_ratio, _max_length(config, model), config.min_length_ratio, config.min_length),
        normalisation=Normalisation(config.length_alpha, config.coverage_beta, config.length_power),
        # A sample is drawn from all tokens, and is not given up for falling behind. Without the attention decoder
        # nobody could tell which tokens CTC should be asked about.
        num_candidates=config.num_candidates
        or (model.vocab_size if config.search == "sampling" or ctc_weight == 1.0 else None),
        end_detection="exact" if config.search == "sampling" else config.end_detection,
        batch_size=config.batch_size,
        patience=config.patience,
    )


def _decoder(config: DecodingConfig, model: AnyModel) -> AttentionDecoder:
    """The attention decoder, as the config wants it."""
    if not config.mix_classifiers:
        return model.decoder
    if not isinstance(model.decoder, TransformerDecoder):
        raise UserError(
            f"decoding.mix_classifiers=true: {type(model.decoder).__name__} has no auxiliary classifiers; leave it out"
        )
    try:
        return model.decoder.mixing()
    except UserError as error:  # it begins with the key
        raise UserError(f"decoding.{error}") from error


def _attention_scorer(config: DecodingConfig, model: AnyModel, tokenizer: Tokenizer, need_attention: bool) -> Scorer:
    decoder = _decoder(config, model)
    if isinstance(model, Whisper) and isinstance(tokenizer, WhisperTokenizer):
        times = TimestampTokens(tokenizer.timestamp_begin, tokenizer.no_timestamps_id)
        return WhisperScorer(model, times, need_attention)
    return DecoderScorer(decoder, need_attention)


def _never_output(model: AnyModel) -> tuple[int, ...]:
    if isinstance(model, HybridModel):
        return (model.blank_id, model.bos_id)
    # Whisper's scorer knows by itself, and some models begin with eos.
    return () if isinstance(model, Whisper) or model.bos_id == model.eos_id else (model.bos_id,)


def _max_length(config: DecodingConfig, model: AnyModel) -> int | None:
    """The most tokens that are both asked for and within the positions the decoder has learned."""
    positions = getattr(model.decoder, "max_positions", None)
    if positions is None:
        return config.max_length
    # Half of Whisper's positions are for the prompt, which is at most 223 tokens of text before and 5 others.
    most = max(1, positions // 2 - 4) if isinstance(model, Whisper) else positions - 1
    return most if config.max_length is None else min(most, config.max_length)


def _rescoring(
    config: DecodingConfig,
    model: AnyModel,
    tokenizer: Tokenizer,
    lm: LanguageModel | None,
    first: Search,
    nbest: int,
) -> RescoringSearch:
    """Of `rescore`, the first pass has `ctc_weight` and the attention decoders share the rest."""
    rescorers: dict[str, Rescorer] = {}
    if config.rescore and isinstance(model, HybridModel):
        rest = 1.0 - config.ctc_weight
        rescorers["attention_rescoring"] = Rescorer(_decoder(config, model), rest * (1.0 - config.reverse_weight))
        if config.reverse_weight:
            if model.reverse_decoder is None:
                raise UserError(
                    f"decoding.reverse_weight={config.reverse_weight}: the model has no right-to-left decoder; "
                    "leave it out"
                )
            rescorers["reverse_rescoring"] = Rescorer(model.reverse_decoder, rest * config.reverse_weight, reverse=True)
    if lm is not None:
        rescorers["lm_rescoring"] = Rescorer(lm, config.lm_weight)
    if config.ngram and config.lm_rescoring:
        rescorers["ngram_rescoring"] = Rescorer(ngram_scorer(config.ngram, tokenizer), config.ngram_weight)
    first_weight = config.ctc_weight if config.rescore else 1.0
    return RescoringSearch(first, rescorers, model.bos_id, model.eos_id, first_weight, 0.0, nbest)
