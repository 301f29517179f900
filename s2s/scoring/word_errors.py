"""Word and character error rate, counted by jiwer."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from importlib.metadata import PackageNotFoundError, version
from itertools import zip_longest
from operator import add
from typing import Literal, cast

import jiwer

from s2s.errors import UserError, nearest

Unit = Literal["word", "char"]
EditKind = Literal["equal", "substitute", "delete", "insert"]


@dataclass(frozen=True)
class ErrorCounts:
    """Tokens that match, and the edits that turn a reference into its hypothesis; counts of several pairs add up."""

    hits: int = 0
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0

    @property
    def references(self) -> int:
        """Tokens in the reference."""
        return self.hits + self.substitutions + self.deletions

    @property
    def errors(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Errors per reference token, 1.0 for as many errors as tokens; NaN without reference tokens."""
        return self.errors / self.references if self.references else float("nan")

    def __add__(self, other: ErrorCounts) -> ErrorCounts:
        return ErrorCounts(
            self.hits + other.hits,
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
        )


@dataclass(frozen=True)
class Edit:
    """One column of an alignment: a reference token (None: inserted) beside a hypothesis token (None: deleted)."""

    kind: EditKind
    reference: str | None
    hypothesis: str | None


@dataclass(frozen=True)
class UtteranceErrors:
    """What one utterance got wrong: its tokens, and the spans jiwer aligned.

    `missing`: it has no hypothesis, so every token is deleted.
    """

    id: str
    reference: tuple[str, ...]
    hypothesis: tuple[str, ...]
    counts: ErrorCounts
    spans: tuple[jiwer.AlignmentChunk, ...]
    missing: bool

    @property
    def alignment(self) -> list[Edit]:
        """The columns, in the order of the tokens."""
        edits = []
        for span in self.spans:
            reference = self.reference[span.ref_start_idx : span.ref_end_idx]
            hypothesis = self.hypothesis[span.hyp_start_idx : span.hyp_end_idx]
            kind = cast(EditKind, span.type)
            edits += [Edit(kind, left, right) for left, right in zip_longest(reference, hypothesis)]
        return edits


@dataclass(frozen=True)
class ErrorReport:
    """The utterances of a test set, in the order of the references, and the ids of hypotheses without a reference."""

    unit: Unit
    lower_case: bool
    utterances: tuple[UtteranceErrors, ...]
    extra: tuple[str, ...]

    @cached_property
    def counts(self) -> ErrorCounts:
        """The sum over the utterances."""
        return reduce(add, (utterance.counts for utterance in self.utterances), ErrorCounts())

    @property
    def missing(self) -> tuple[str, ...]:
        """Ids of references without a hypothesis."""
        return tuple(utterance.id for utterance in self.utterances if utterance.missing)

    @property
    def sentences(self) -> int:
        return len(self.utterances)

    @property
    def sentence_errors(self) -> int:
        """Utterances with an error, or without a hypothesis."""
        return sum(utterance.missing or utterance.counts.errors > 0 for utterance in self.utterances)

    @property
    def signature(self) -> str:
        """What the numbers depend on besides the texts."""
        case = "lower" if self.lower_case else "mixed"
        return f"jiwer:{_version('jiwer')}|unit:{self.unit}|case:{case}|unicode:NFC|s2s:{_version('s2s')}"


def error_counts(reference: Sequence[str | int], hypothesis: Sequence[str | int]) -> ErrorCounts:
    """Edits between two sequences of tokens; either may be empty."""
    return _process(reference, hypothesis)[0]


def score_words(
    references: Mapping[str, str], hypotheses: Mapping[str, str], unit: Unit = "word", lower_case: bool = False
) -> ErrorReport:
    """Score transcripts by utterance id.

    Words are what white space separates; `unit` "char" counts the characters of the same words and one space between
    two of them. A reference without a hypothesis counts as deleted, a hypothesis without a reference is not counted;
    the report names both. Raises UserError where no id is in both, or the references hold no words.
    """
    if unit not in ("word", "char"):
        raise UserError(f"unknown unit '{unit}': expected word or char.{nearest(unit, ('word', 'char'))}")
    if not references:
        raise UserError("there are no references: the rate is undefined")
    if references.keys().isdisjoint(hypotheses):
        ours, theirs = next(iter(references)), next(iter(hypotheses), None)
        against = "there are no hypotheses" if theirs is None else f"the hypotheses start with '{theirs}'"
        raise UserError(f"no utterance id is in both files: the references start with '{ours}', {against}")
    utterances = []
    for utterance, text in references.items():
        reference = _tokens(text, unit, lower_case)
        hypothesis = _tokens(hypotheses.get(utterance, ""), unit, lower_case)
        counts, spans = _process(reference, hypothesis)
        missing = utterance not in hypotheses
        utterances.append(UtteranceErrors(utterance, reference, hypothesis, counts, spans, missing))
    extra = tuple(utterance for utterance in hypotheses if utterance not in references)
    report = ErrorReport(unit, lower_case, tuple(utterances), extra)
    if not report.counts.references:
        raise UserError("the references hold no words: the rate is undefined")
    return report


def _tokens(text: str, unit: Unit, lower_case: bool) -> tuple[str, ...]:
    text = unicodedata.normalize("NFC", text)  # as tokenizers write it: é is é however a reference spells it
    words = (text.lower() if lower_case else text).split()
    return tuple(words if unit == "word" else " ".join(words))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "0.0.0"


def _process(
    reference: Sequence[str | int], hypothesis: Sequence[str | int]
) -> tuple[ErrorCounts, tuple[jiwer.AlignmentChunk, ...]]:
    names: dict[str | int, str] = {}  # jiwer takes words only; equal tokens get equal names
    sides = [
        " ".join([names.setdefault(token, str(len(names))) for token in tokens]) for tokens in (reference, hypothesis)
    ]
    output = jiwer.process_words(sides[0], sides[1])
    counts = ErrorCounts(output.hits, output.substitutions, output.deletions, output.insertions)
    return counts, tuple(output.alignments[0])
