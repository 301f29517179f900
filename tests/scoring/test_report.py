from __future__ import annotations

import json

from s2s.scoring.report import alignment_block, rate_line, report_json, sentence_line
from s2s.scoring.word_errors import ErrorCounts, ErrorReport, UtteranceErrors, score_words


def test_lines_are_as_kaldi_writes_them() -> None:
    counts = ErrorCounts(hits=257, substitutions=7, deletions=3, insertions=2)
    clean = [UtteranceErrors(str(i), (), (), ErrorCounts(), (), missing=False) for i in range(29)]
    utterances = (UtteranceErrors("a", (), (), counts, (), missing=False), *clean)
    report = ErrorReport("word", False, utterances, ())
    assert rate_line(report) == "%WER 4.49 [ 12 / 267, 2 ins, 3 del, 7 sub ]"
    assert sentence_line(report) == "%SER 3.33 [ 1 / 30 ]"
    assert rate_line(ErrorReport("char", False, utterances, ())).startswith("%CER 4.49 [")


def test_alignments_stand_in_columns() -> None:
    report = score_words({"a": "the cat sat", "b": "日本 語"}, {"a": "a cat sat down", "b": "日本"})
    assert alignment_block(report.utterances[0]).splitlines() == [
        "a 66.67 [ 2 / 3, 1 ins, 0 del, 1 sub ]",
        "REF: the cat sat ****",
        "HYP: a   cat sat down",
        "OPS: S           I",
    ]
    assert alignment_block(report.utterances[1]).splitlines()[1:] == ["REF: 日本 語", "HYP: 日本 **", "OPS:      D"]


def test_missing_and_empty_utterances_are_told() -> None:
    report = score_words({"a": "x", "b": "y z", "c": ""}, {"a": "x", "c": "w"})
    assert alignment_block(report.utterances[1]).splitlines() == [
        "b (no hypothesis) 100.00 [ 2 / 2, 0 ins, 2 del, 0 sub ]",
        "REF: y z",
        "HYP: * *",
        "OPS: D D",
    ]
    assert alignment_block(report.utterances[2]).splitlines()[0] == "c - [ 1 / 0, 1 ins, 0 del, 0 sub ]"


def test_spaces_among_characters_are_seen() -> None:
    report = score_words({"a": "a b"}, {"a": "ab"}, "char")
    assert alignment_block(report.utterances[0]).splitlines()[1:] == ["REF: a ▁ b", "HYP: a * b", "OPS:   D"]


def test_json_has_every_number_and_no_nan() -> None:
    report = score_words({"a": "x y", "c": ""}, {"a": "x z", "c": "w"})
    content = json.loads(json.dumps(report_json(report, alignments=True), allow_nan=False))
    numbers = {
        key: content[key]
        for key in ("rate", "errors", "references", "hits", "substitutions", "deletions", "insertions")
    }
    assert list(numbers.values()) == [1.0, 2, 2, 1, 1, 0, 1]
    assert content["utterances"][0]["alignment"] == [["equal", "x", "x"], ["substitute", "y", "z"]]
    assert content["utterances"][1]["rate"] is None
    assert "utterances" not in report_json(report)
