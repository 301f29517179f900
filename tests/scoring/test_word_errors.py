from __future__ import annotations

import csv
import math
import re
from collections.abc import Sequence
from pathlib import Path

import jiwer
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2s.errors import UserError
from s2s.scoring.word_errors import ErrorCounts, ErrorReport, Unit, error_counts, score_words

TEXT = st.text(st.sampled_from("ab \u00e9字"), max_size=12)
PAIRS = st.dictionaries(
    st.text("uv12", min_size=1, max_size=3), st.tuples(TEXT, TEXT | st.none()), min_size=1, max_size=6
)


def distance(reference: Sequence[object], hypothesis: Sequence[object]) -> int:
    """Levenshtein distance by the textbook recurrence (Wagner and Fischer 1974)."""
    row = list(range(len(hypothesis) + 1))
    for i, left in enumerate(reference, start=1):
        diagonal, row[0] = row[0], i
        for j, right in enumerate(hypothesis, start=1):
            diagonal, row[j] = row[j], min(diagonal + (left != right), row[j] + 1, row[j - 1] + 1)
    return row[-1]


def tokens(text: str, unit: Unit) -> list[str]:
    return text.split() if unit == "word" else list(" ".join(text.split()))


def check_against_brute_force(report: ErrorReport, references: dict[str, str], hypotheses: dict[str, str]) -> None:
    assert [utterance.id for utterance in report.utterances] == list(references)
    total = 0
    for utterance in report.utterances:
        reference = tokens(references[utterance.id], report.unit)
        hypothesis = tokens(hypotheses.get(utterance.id, ""), report.unit)
        counts, edits = utterance.counts, utterance.alignment
        total += distance(reference, hypothesis)
        assert counts.errors == distance(reference, hypothesis)
        assert counts.references == len(reference)
        assert counts.hits + counts.substitutions + counts.insertions == len(hypothesis)
        assert [edit.reference for edit in edits if edit.reference is not None] == reference
        assert [edit.hypothesis for edit in edits if edit.hypothesis is not None] == hypothesis
        for edit in edits:
            assert (edit.reference == edit.hypothesis) == (edit.kind == "equal")
            assert (edit.reference is None) == (edit.kind == "insert")
            assert (edit.hypothesis is None) == (edit.kind == "delete")
        kinds = [edit.kind for edit in edits]
        assert counts == ErrorCounts(*map(kinds.count, ("equal", "substitute", "delete", "insert")))
    assert report.counts.errors == total
    assert report.counts.references == sum(len(tokens(text, report.unit)) for text in references.values())


@settings(deadline=None, max_examples=150)
@given(pairs=PAIRS, unit=st.sampled_from(["word", "char"]))
def test_counts_and_alignments_equal_brute_force(pairs: dict[str, tuple[str, str | None]], unit: Unit) -> None:
    references = {utterance: reference for utterance, (reference, _) in pairs.items()}
    hypotheses = {utterance: hypothesis for utterance, (_, hypothesis) in pairs.items() if hypothesis is not None}
    if not hypotheses or not any(text.split() for text in references.values()):
        with pytest.raises(UserError):
            score_words(references, hypotheses, unit)
        return
    report = score_words(references, hypotheses, unit)
    check_against_brute_force(report, references, hypotheses)
    assert set(report.missing) == references.keys() - hypotheses.keys()
    wrong = [
        tokens(text, unit) != tokens(hypotheses.get(i, ""), unit) or i not in hypotheses
        for i, text in references.items()
    ]
    assert report.sentence_errors == sum(wrong)


@settings(deadline=None, max_examples=100)
@given(reference=st.lists(st.integers(-3, 3), max_size=8), hypothesis=st.lists(st.integers(-3, 3), max_size=8))
def test_ids_are_counted_as_tokens(reference: list[int], hypothesis: list[int]) -> None:
    counts = error_counts(reference, hypothesis)
    assert counts.errors == distance(reference, hypothesis)
    assert counts.references == len(reference)
    assert counts == error_counts([f"{i} x" for i in reference], [f"{i} x" for i in hypothesis])


@pytest.mark.parametrize("unit", ["word", "char"])
def test_german_sentences_against_their_neighbours_equal_brute_force_and_jiwer(unit: Unit, data_root: Path) -> None:
    with open(data_root / "kerstin-german-cc0/metadata.tsv", encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))[:60]
    texts = [row["text"] for row in rows]
    references = {row["id"]: text for row, text in zip(rows, texts, strict=True)}
    hypotheses = dict(zip(references, [texts[0], *texts[:-1]], strict=True))
    report = score_words(references, hypotheses, unit)
    check_against_brute_force(report, references, hypotheses)
    pair = list(references.values()), list(hypotheses.values())
    assert report.counts.rate == pytest.approx(jiwer.wer(*pair) if unit == "word" else jiwer.cer(*pair), rel=1e-12)
    assert report.sentence_errors == len(texts) - 1


def test_a_missing_hypothesis_is_deleted_and_an_extra_one_is_only_named() -> None:
    report = score_words({"a": "one two", "b": "three", "c": ""}, {"a": "one two", "x": "four"})
    assert report.counts == ErrorCounts(hits=2, deletions=1)
    assert (report.missing, report.extra) == (("b", "c"), ("x",))
    assert (report.sentence_errors, report.sentences) == (2, 3)
    assert [utterance.missing for utterance in report.utterances] == [False, True, True]


def test_words_for_an_empty_reference_are_insertions() -> None:
    report = score_words({"a": "", "b": "one"}, {"a": "two three", "b": "one"})
    assert report.utterances[0].counts == ErrorCounts(insertions=2)
    assert math.isnan(report.utterances[0].counts.rate)
    assert report.counts.rate == 2.0


def test_characters_include_one_space_between_words() -> None:
    report = score_words({"a": " ab  cd "}, {"a": "abcd"}, "char")
    assert report.counts == ErrorCounts(hits=4, deletions=1)


def test_lower_case_forgives_case_and_the_signature_says_so() -> None:
    given = {"a": "Guten Tag"}, {"a": "guten tag"}
    assert score_words(*given).counts.errors == 2
    assert score_words(*given, lower_case=True).counts.errors == 0
    assert re.fullmatch(r"jiwer:4[.\d]*\|unit:word\|case:mixed\|unicode:NFC\|s2s:[.\d]+", score_words(*given).signature)
    assert "|unit:char|case:lower|unicode:NFC|s2s:" in score_words(*given, "char", lower_case=True).signature


def test_counts_add_up() -> None:
    assert ErrorCounts(1, 2, 3, 4) + ErrorCounts(10, 20, 30, 40) == ErrorCounts(11, 22, 33, 44)
    assert ErrorCounts(hits=1, substitutions=2, deletions=1, insertions=2).rate == 5 / 4


@pytest.mark.parametrize(
    ("references", "hypotheses", "message"),
    [
        (
            {"a": "x"},
            {"b": "x"},
            "no utterance id is in both files: the references start with 'a', the hypotheses start with",
        ),
        ({"a": "x"}, {}, "there are no hypotheses"),
        ({}, {"a": "x"}, "there are no references"),
        ({"a": " "}, {"a": "x"}, "the references hold no words: the rate is undefined"),
    ],
)
def test_what_has_no_rate_is_an_error(references: dict[str, str], hypotheses: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        score_words(references, hypotheses)


def test_an_unknown_unit_is_named_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"unknown unit 'words': expected word or char\. Did you mean 'word'\?"):
        score_words({"a": "x"}, {"a": "x"}, "words")  # type: ignore[arg-type]
