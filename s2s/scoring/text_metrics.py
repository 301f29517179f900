"""BLEU, chrF and TER, all by sacrebleu."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from s2s.errors import UserError, nearest

if TYPE_CHECKING:
    from sacrebleu.metrics.base import Metric, Score

TextMetricName = Literal["bleu", "chrf", "ter"]
TEXT_METRICS = ("bleu", "chrf", "ter")
_DETAILS = {
    "bleu": ("precisions", "bp", "sys_len", "ref_len"),
    "chrf": ("char_order", "word_order", "beta"),
    "ter": ("num_edits", "ref_length"),
}


@dataclass(frozen=True)
class TextMetric:
    """Which score, and its options by sacrebleu's names and with its defaults.

    `lower_case` is of BLEU and chrF, `tokenize` of BLEU, `word_order` of chrF (2 is chrF++), `case_sensitive` of TER,
    which lower-cases by default.
    """

    name: TextMetricName
    lower_case: bool = False
    tokenize: str = "13a"
    word_order: int = 0
    case_sensitive: bool = False

    def __post_init__(self) -> None:
        if self.name not in TEXT_METRICS:
            expected = ", ".join(TEXT_METRICS)
            raise UserError(f"unknown metric '{self.name}': expected {expected}.{nearest(self.name, TEXT_METRICS)}")

    @property
    def higher_is_better(self) -> bool:
        return self.name != "ter"

    def build(self, of_sentences: bool = False) -> Metric:
        """The metric of sacrebleu; for single sentences, BLEU leaves out orders of n-grams that they are too short for.

        Raises UserError for a tokenizer that does not exist or needs what is not installed.
        """
        from sacrebleu.metrics import BLEU, CHRF, TER

        if self.name == "chrf":
            return CHRF(word_order=self.word_order, lowercase=self.lower_case)
        if self.name == "ter":
            return TER(case_sensitive=self.case_sensitive)
        if self.tokenize not in BLEU.TOKENIZERS:
            raise UserError(
                f"--tokenize {self.tokenize}: expected one of {', '.join(BLEU.TOKENIZERS)}."
                f"{nearest(self.tokenize, BLEU.TOKENIZERS)}"
            )
        try:
            return BLEU(self.lower_case, force=True, tokenize=self.tokenize, effective_order=of_sentences)
        except (RuntimeError, ImportError, OSError) as error:  # MeCab, or a model that sacrebleu has to download
            reason = " ".join(str(error).split())
            raise UserError(f"--tokenize {self.tokenize}: sacrebleu cannot load it: {reason}") from error


@dataclass(frozen=True)
class TextScore:
    """A corpus score in percent, the signature that makes it reproducible, and the numbers it is made of.

    `name` is sacrebleu's, such as chrF2++, and `line` what it prints; `sentences` are the scores of the N segments.
    """

    name: str
    score: float
    signature: str
    line: str
    details: dict[str, Any]
    sentences: tuple[float, ...]


def text_statistics(metric: Metric, references: Sequence[Sequence[str]], outputs: Sequence[str]) -> np.ndarray:
    """What a score is computed from, (N, K) for N segments: it is a function of the sum over segments.

    These are sacrebleu's own, the ones that its significance tests resample.
    """
    return np.array(metric._extract_corpus_statistics(outputs, references), dtype=np.float64)


def score_of(metric: Metric, total: np.ndarray) -> Score:
    """The score of summed statistics (K,)."""
    return metric._compute_score_from_stats(total.tolist())


def score_text(metric: TextMetric, references: Sequence[Sequence[str]], outputs: Sequence[str]) -> TextScore:
    """Score N segments against one or more references of N segments each."""
    corpus, sentence = metric.build(), metric.build(of_sentences=True)
    statistics = text_statistics(corpus, references, outputs)
    score = score_of(corpus, statistics.sum(0))
    signature = corpus.get_signature().format()
    return TextScore(
        score.name,
        float(score.score),
        signature,
        score.format(signature=signature),
        {name: getattr(score, name) for name in _DETAILS[metric.name]},
        tuple(float(score_of(sentence, row).score) for row in statistics),
    )
