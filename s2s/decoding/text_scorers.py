"""The scorers of a config that know nothing of the audio, or of the source."""

from __future__ import annotations

from s2s.decoding.bias import PhraseBias
from s2s.decoding.config import DecodingConfig
from s2s.decoding.constraints import PhraseConstraint, PrefixConstraint
from s2s.decoding.ngram import load_ngram
from s2s.decoding.phrases import read_phrases
from s2s.decoding.repetition import NgramBlocking
from s2s.decoding.scorers import CandidateScorer, DecoderScorer, LengthBonus, Scorer
from s2s.errors import UserError
from s2s.models.encoder_decoder import EncoderDecoder
from s2s.models.hybrid import HybridModel
from s2s.models.language_model import LanguageModel
from s2s.models.lm_bundle import check_vocabulary, load_language_model
from s2s.tokenizers.base import SPACE, Tokenizer

Scorers = dict[str, tuple[Scorer | CandidateScorer, float]]
AnyModel = HybridModel | EncoderDecoder


def fusion_scorers(config: DecodingConfig, model: AnyModel, tokenizer: Tokenizer, lm: LanguageModel | None) -> Scorers:
    """Language models, phrases and the bonus for length, where a search has them."""
    scorers: Scorers = {}
    if lm is not None:
        scorers["lm"] = DecoderScorer(lm), config.lm_weight
    if config.ngram and not config.lm_rescoring:
        scorers["ngram"] = ngram_scorer(config.ngram, tokenizer), config.ngram_weight
    if config.phrases:
        phrases = read_phrases(config.phrases, tokenizer, config.phrase_boost)
        pieces = tokenizer.pieces(range(tokenizer.vocab_size))
        scorers["phrases"] = PhraseBias(phrases, model.vocab_size, model.bos_id, model.eos_id, pieces), 1.0
    if config.length_bonus:
        scorers["length"] = LengthBonus(model.vocab_size, model.eos_id), config.length_bonus
    return scorers


def constraints(config: DecodingConfig, model: AnyModel, tokenizer: Tokenizer) -> Scorers:
    """Scorers that forbid: 0 or -inf."""
    scorers: Scorers = {}
    if config.no_repeat_ngram:
        scorers["no_repeat_ngram"] = NgramBlocking(config.no_repeat_ngram, model.vocab_size), 1.0
    if config.prefix is not None:
        tokens = tokenizer.encode(config.prefix)
        if tokenizer.unk_id in tokens:
            raise UserError(f"decoding.prefix={config.prefix}: has characters that the tokenizer lacks")
        scorers["prefix"] = PrefixConstraint([tokens], model.vocab_size, model.eos_id), 1.0
    if config.choices:
        phrases = [tokens for tokens, _ in read_phrases(config.choices, tokenizer)]
        pieces = tokenizer.pieces(range(tokenizer.vocab_size))
        # Characters have a piece that is a space; subwords bring their own.
        separator = [pieces.index(SPACE)] if tokenizer.kind == "char" and SPACE in pieces else []
        choices = PhraseConstraint(phrases, model.vocab_size, model.eos_id, config.choices_repeat, separator)
        scorers["choices"] = choices, 1.0
    return scorers


def language_model(config: DecodingConfig, model: AnyModel, tokenizer: Tokenizer) -> LanguageModel | None:
    """That of `decoding.lm`, where there is one, with the pieces of the tokenizer."""
    if config.lm is None:
        return None
    bundle = load_language_model(config.lm, next(model.parameters()).device)
    check_vocabulary(bundle.tokenizer, tokenizer, f"decoding.lm={config.lm}")
    return bundle.model


def ngram_scorer(path: str, tokenizer: Tokenizer) -> CandidateScorer:
    """The n-gram model of `decoding.ngram`."""
    if tokenizer.unk_id < 0:
        raise UserError(f"decoding.ngram={path}: needs a tokenizer with an unknown piece; leave it out")
    return load_ngram(path, tokenizer)
