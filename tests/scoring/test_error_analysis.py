from __future__ import annotations

import pytest
from parallel_toy import sentences, spoilt

from s2s.scoring.error_analysis import (
    Confusion,
    WrongWord,
    aligned_columns,
    by_length,
    by_speaker,
    confusion_table,
    confusions,
    wrong_words,
)
from s2s.scoring.word_errors import ErrorReport, score_words

REFERENCES = {"u1": "five nine one", "u2": "five five", "u3": "", "u4": "one two three four five six"}
OUTPUTS = {"u1": "five five one", "u2": "nine five", "u3": "oh", "u4": "one three four five six"}


@pytest.fixture
def report() -> ErrorReport:
    """five -> nine, nine -> five, two deleted, oh inserted."""
    return score_words(REFERENCES, OUTPUTS)


def test_short_references_are_grouped_by_every_length(report: ErrorReport) -> None:
    assert [(group.label, group.members) for group in by_length(report.utterances)] == [
        ("0", (2,)),
        ("2", (1,)),
        ("3", (0,)),
        ("6", (3,)),
    ]


def test_longer_references_are_grouped_by_spans_of_lengths() -> None:
    texts = {str(n): "w " * n for n in (0, 1, 2, 3, 5, 6, 13, 200, 201, 999)}
    groups = by_length(score_words(texts, texts).utterances)
    assert [group.label for group in groups] == ["0", "1-2", "3-5", "6-10", "11-15", "101-200", "over 200"]
    assert [len(group.members) for group in groups] == [1, 2, 2, 1, 1, 1, 2]


def test_every_utterance_is_in_one_group_of_length_and_of_speaker() -> None:
    texts = dict(enumerate(sentences(50, longest=40)))
    references = {str(key): text for key, text in texts.items()}
    utterances = score_words(references, references).utterances
    for groups in (by_length(utterances), by_speaker(utterances, {"3": "anna", "7": "bo", "9": "anna"})):
        assert sorted(place for group in groups for place in group.members) == list(range(50))


def test_speakers_are_in_order_and_the_unknown_last(report: ErrorReport) -> None:
    groups = by_speaker(report.utterances, {"u1": "zoe", "u4": "anna", "u9": "nobody"})
    assert [(group.label, group.members) for group in groups] == [("anna", (3,)), ("zoe", (0,)), ("(unknown)", (1, 2))]


def test_words_are_counted_right_and_wrong(report: ErrorReport) -> None:
    assert wrong_words(report) == [WrongWord("five", 4, 1), WrongWord("nine", 1, 1), WrongWord("two", 1, 1)]


def test_confusions_name_what_was_taken_for_what(report: ErrorReport) -> None:
    assert set(confusions(report)) == {
        Confusion("nine", "five", 1),
        Confusion("five", "nine", 1),
        Confusion("two", None, 1),
        Confusion(None, "oh", 1),
    }
    twice = score_words({**REFERENCES, "u5": "two"}, {**OUTPUTS, "u5": ""})
    assert confusions(twice)[0] == Confusion("two", None, 2)


def test_the_confusion_table_has_every_word_once(report: ErrorReport) -> None:
    table = confusion_table(report)
    assert table.words == ("nine", "five")
    assert table.counts == (
        (0, 1, 0, 0),  # nine: taken for five
        (1, 3, 0, 0),  # five: once taken for nine
        (0, 0, 5, 1),  # others: five right, two deleted
        (0, 0, 1, 0),  # inserted: oh
    )
    assert sum(map(sum, table.counts)) == sum(len(utterance.alignment) for utterance in report.utterances)
    assert confusion_table(report, size=1).counts == ((0, 1, 0), (1, 8, 1), (0, 1, 0))


def test_systems_stand_beside_one_reference() -> None:
    reference = {"u": "the cat sat"}
    outputs = ("a cat sat down now", "the black cat mat")
    utterances = [score_words(reference, {"u": output}).utterances[0] for output in outputs]
    assert aligned_columns(utterances) == [
        ("the", "a", "the"),
        (None, None, "black"),
        ("cat", "cat", "cat"),
        ("sat", "sat", "mat"),
        (None, "down", None),
        (None, "now", None),
    ]
    assert aligned_columns(utterances[:1])[0] == ("the", "a")


def test_columns_hold_every_word_of_every_text() -> None:
    texts = sentences(40)
    outputs = spoilt(texts, 0.4, 1), spoilt(texts, 0.4, 2)
    for text, *heard in zip(texts, *outputs, strict=True):
        utterances = [score_words({"u": text}, {"u": output}).utterances[0] for output in heard]
        columns = aligned_columns(utterances)
        rows = [[word for word in row if word is not None] for row in zip(*columns, strict=True)]
        assert rows == [text.split(), *(output.split() for output in heard)]
        assert all(any(column) for column in columns)
