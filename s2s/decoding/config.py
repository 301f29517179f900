"""How to search, as a config."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path

from s2s.conf import compose, to_dataclass
from s2s.errors import UserError, nearest
from s2s.nn.attention.reach import Chunked

SEARCHES = ("beam", "monotonic", "segmental", "sampling", "ctc_greedy", "ctc_prefix")
SEGMENT_SEARCHES = ("segmental", "time_synchronous")
RECOMBINATIONS = ("max", "sum")


@dataclass(frozen=True)
class DecodingConfig:
    """How to search; a value that the chosen search would not heed is refused.

    Attributes:
        search: "beam" (with beam_size 1: greedy), "monotonic" (the same, of a decoder whose heads stop), "segmental"
            (of a segmental model), "sampling", "ctc_greedy" or "ctc_prefix".
        beam_size: hypotheses kept, or samples drawn.
        nbest: hypotheses returned.
        ctc_weight: share of the CTC prefix score in a beam, the attention decoder has the rest; 1: CTC alone. With
            `rescore`, the share of the first pass.
        ensemble: folders of further bundles, whose encoders, decoders and CTC outputs are averaged with the first.
        lm, lm_weight: folder of a language model, and its weight.
        internal_lm, internal_lm_weight: what the decoder hears where its internal language model is asked: "zero",
            "utterance" (the mean of its frames), or a file that `s2s lm mean-states` wrote; and the weight with which
            that is subtracted.
        ngram, ngram_weight: ARPA or KenLM file over the tokenizer's pieces, and its weight.
        lm_rescoring: language model and n-gram score whole hypotheses that the search has found, not its tokens; with
            `rescore` the language model does in any case.
        phrases, phrase_boost: file of phrases to favour (one a line, optionally a tab and its boost); the default
            boost.
        mix_classifiers: the auxiliary classifiers of the attention decoder answer with its last layer's, where it has
            some; otherwise the last one answers alone.
        length_bonus: reward for each token.
        length_alpha, coverage_beta: GNMT's length normalisation and coverage penalty.
        length_power: log P is divided by the number of tokens to this power; 1: the mean.
        max_length_ratio, max_length, min_length_ratio, min_length: tokens per encoder frame, and tokens.
        end_detection: "exact" (until nothing better can come) or "decline" (also after three lengths 10 below the
            best); null: "exact" unless bonuses, phrases or a subtracted model would keep the search from ending.
            "patience": also when `patience` times the beam size hypotheses have ended.
        num_candidates: tokens a hypothesis that CTC prefix and n-gram scores are made for; null: 1.5 times the beam in
            a beam search, 20 in a CTC prefix search, all when sampling.
        groups, diversity: diverse beam search.
        segment_search: of a segmental model: "segmental" (hypotheses that end a segment at a frame compete among
            themselves) or "time_synchronous" (blanks and labels compete alike).
        recombine: hypotheses that have become one have the score of the better ("max") or of both ("sum").
        beam_threshold: hypotheses so many nats below the best are dropped by a segmental search; null: none.
        temperature, top_k, top_p, typical_p, seed: sampling.
        rescore, reverse_weight: score the hypotheses again with the attention decoder; share of its right-to-left twin.
        mbr, mbr_temperature: "wer", "bleu" or "chrf": choose the text of least expected risk; flattens the scores.
        prefix: text that every hypothesis begins with.
        choices, choices_repeat: file of phrases of which a hypothesis must be one, or a sequence.
        no_repeat_ngram: n-grams of this many tokens occur once; 0: off.
        max_compression_ratio: texts that zlib makes smaller by more come after all others; null: off.
        chunk_size, left_chunks: encoder frames of a chunk, and chunks before it that it sees (null: all): whole
            utterances are heard as a stream of such chunks is; chunk_size null: as the encoder does by itself.
        token_times: align the hypotheses with the CTC output.
        attention: return where the decoder looked.
        max_batch_seconds: audio encoded at once, padding counted; more was slower on a CPU.
        batch_size: utterances searched at once; those that are finished make place for others.
    """

    search: str = "beam"
    beam_size: int = 10
    nbest: int = 1
    ctc_weight: float = 0.3
    ensemble: list[str] = field(default_factory=list)
    lm: str | None = None
    lm_weight: float = 0.3
    internal_lm: str = "zero"
    internal_lm_weight: float = 0.0
    ngram: str | None = None
    ngram_weight: float = 0.3
    lm_rescoring: bool = False
    phrases: str | None = None
    phrase_boost: float = 2.0
    mix_classifiers: bool = False
    length_bonus: float = 0.0
    length_alpha: float = 0.0
    coverage_beta: float = 0.0
    length_power: float = 0.0
    max_length_ratio: float = 1.0
    max_length: int | None = None
    min_length_ratio: float = 0.0
    min_length: int = 0
    end_detection: str | None = None
    patience: float = 1.0
    num_candidates: int | None = None
    groups: int = 1
    diversity: float = 0.0
    segment_search: str = "segmental"
    recombine: str = "max"
    beam_threshold: float | None = 10.0
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    typical_p: float | None = None
    seed: int = 0
    rescore: bool = False
    reverse_weight: float = 0.0
    mbr: str | None = None
    mbr_temperature: float = 1.0
    prefix: str | None = None
    choices: str | None = None
    choices_repeat: bool = False
    no_repeat_ngram: int = 0
    max_compression_ratio: float | None = None
    chunk_size: int | None = None
    left_chunks: int | None = None
    token_times: bool = False
    attention: bool = False
    max_batch_seconds: float = 40.0
    batch_size: int = 16

    def __post_init__(self) -> None:
        if self.search not in SEARCHES:
            raise UserError(
                f"decoding.search={self.search}: expected one of {', '.join(SEARCHES)}.{nearest(self.search, SEARCHES)}"
            )
        for name, values in (("segment_search", SEGMENT_SEARCHES), ("recombine", RECOMBINATIONS)):
            if (value := getattr(self, name)) not in values:
                raise UserError(f"decoding.{name}={value}: expected {' or '.join(values)}.{nearest(value, values)}")
        if self.beam_threshold is not None and self.beam_threshold <= 0:
            raise UserError(f"decoding.beam_threshold={self.beam_threshold}: expected more than 0 nats, or null")
        if not 0.0 <= self.ctc_weight <= 1.0:
            raise UserError(f"decoding.ctc_weight={self.ctc_weight}: expected a number from 0 to 1")
        if not 0.0 <= self.reverse_weight <= 1.0:
            raise UserError(f"decoding.reverse_weight={self.reverse_weight}: expected a number from 0 to 1")
        for name, least in (("max_batch_seconds", 0), ("batch_size", 0), ("no_repeat_ngram", -1)):
            if getattr(self, name) <= least:
                raise UserError(f"decoding.{name}={getattr(self, name)}: expected more than {least}")
        for name, least in (("chunk_size", 1), ("left_chunks", 0)):
            if getattr(self, name) is not None and getattr(self, name) < least:
                raise UserError(f"decoding.{name}={getattr(self, name)}: expected at least {least}, or null")
        if self.num_candidates is not None and self.num_candidates < 1:
            raise UserError(f"decoding.num_candidates={self.num_candidates}: expected 1 or more, or null")
        for key in changed(self):
            if not _used(key, self):
                raise UserError(f"decoding.{key}={getattr(self, key)}: has no effect {_why(key, self)}; leave it out")

    @property
    def chunks(self) -> Chunked | None:
        """The chunks in which the encoder hears; None: as it does by itself."""
        return None if self.chunk_size is None else Chunked(self.chunk_size, self.left_chunks)


# A recipe gives the same beam and CTC weight to all its modes, so these are let pass where they have no effect.
EVERYWHERE = {
    "search",
    "beam_size",
    "nbest",
    "ctc_weight",
    "chunk_size",
    "left_chunks",
    "token_times",
    "attention",
    "max_batch_seconds",
    "batch_size",
}
LISTS = {"mbr", "mbr_temperature", "max_compression_ratio", "rescore", "reverse_weight", "lm_rescoring"}
FUSION = {"lm", "lm_weight", "ngram", "ngram_weight", "phrases", "phrase_boost", "length_bonus", "num_candidates"}
BEAM_ONLY = {"groups", "diversity", "length_alpha", "coverage_beta", "end_detection", "patience"}
SEGMENTAL_ONLY = {"segment_search", "recombine", "beam_threshold"}
SAMPLING_ONLY = {"temperature", "top_k", "top_p", "typical_p", "seed"}
ONLY_WITH = {  # one of
    "lm_weight": ("lm",),
    "ngram_weight": ("ngram",),
    "lm_rescoring": ("lm", "ngram"),
    "internal_lm": ("internal_lm_weight",),
    "phrase_boost": ("phrases",),
    "choices_repeat": ("choices",),
    "mbr_temperature": ("mbr",),
    "reverse_weight": ("rescore",),
    "diversity": ("groups",),
    "left_chunks": ("chunk_size",),
    "patience": ("end_detection",),
}


def changed(config: DecodingConfig) -> list[str]:
    """The keys that are not at their default."""
    keys = []
    for key in fields(config):
        default = key.default if key.default_factory is MISSING else key.default_factory()
        keys += [key.name] if getattr(config, key.name) != default else []
    return keys


def _used(key: str, config: DecodingConfig) -> bool:
    if _lacks(key, config):
        return False
    if key in EVERYWHERE:
        return True
    if key in SEGMENTAL_ONLY or config.search == "segmental":
        return config.search == "segmental" and key in SEGMENTAL_ONLY | {
            "mbr",
            "mbr_temperature",
            "max_compression_ratio",
        }
    if config.search == "ctc_greedy":
        return False
    if config.search == "ctc_prefix":
        return key in LISTS | FUSION or (key == "mix_classifiers" and config.rescore)
    return key not in (BEAM_ONLY if config.search == "sampling" else SAMPLING_ONLY)


def _lacks(key: str, config: DecodingConfig) -> str:
    """What has to be given for a key to have an effect, where none of it is."""
    others = ONLY_WITH.get(key, ())
    return "" if set(others) & set(changed(config)) else " or ".join(f"decoding.{other}" for other in others)


def _why(key: str, config: DecodingConfig) -> str:
    lacks = _lacks(key, config)
    return f"without {lacks}" if lacks else f"with search={config.search}"


@dataclass(frozen=True)
class DecodeConfig:
    """The root of the config that `s2s decode` and `s2s transcribe` compose."""

    decoding: DecodingConfig = field(default_factory=DecodingConfig)


def load_decoding_config(overrides: Sequence[str] = (), config_dir: str | Path | None = None) -> DecodingConfig:
    """The decoding that `overrides` such as "decoding=ctc_greedy" ask for; UserError names a bad key or value."""
    config: DecodeConfig = to_dataclass(compose("decode", DecodeConfig, overrides, config_dir))
    return config.decoding
