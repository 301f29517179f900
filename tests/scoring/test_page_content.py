from __future__ import annotations

import json

import pytest
import sacrebleu
from parallel_toy import sentences, spoilt

from s2s.scoring.comparison import compare_errors
from s2s.scoring.page_content import error_system, page_content, text_system
from s2s.scoring.text_metrics import TextMetric
from s2s.scoring.word_errors import score_words

REFERENCES = {"u1": "five nine one", "u2": "five five", "u3": "", "u4": "one two three four"}
FIRST = {"u1": "five five one", "u2": "five five", "u3": "oh", "u4": "one two three"}
SECOND = {"u1": "five nine one", "u2": "nine five", "u3": "oh"}
REPORTS = [score_words(REFERENCES, output) for output in (FIRST, SECOND)]


def content(**options: object) -> dict:
    systems = [error_system(name, report) for name, report in zip(("a", "b"), REPORTS, strict=True)]
    found = page_content("Test", systems, comparison=compare_errors(*REPORTS, samples=100), **options)  # type: ignore[arg-type]
    return json.loads(json.dumps(found, allow_nan=False))


def test_totals_are_the_reports() -> None:
    page = content()
    assert (page["title"], page["metric"], page["unit"], page["tokens"]) == ("Test", "WER", "word", 9)
    for system, report in zip(page["systems"], REPORTS, strict=True):
        assert system["score"] == pytest.approx(100 * report.counts.rate)
        assert system["signature"] == report.signature
        assert sum(system["edits"]) == system["errors"] == report.counts.errors
        assert system["wrong"] == report.sentence_errors
    assert [system["missing"] for system in page["systems"]] == [0, 1]
    assert [system["empty"] for system in page["systems"]] == [0, 1]


def test_utterances_are_aligned_and_say_which_system_is_better() -> None:
    utterances = content()["utterances"]
    assert [each["id"] for each in utterances] == ["u1", "u2", "u3", "u4"]
    assert utterances[0]["columns"] == ["five", ["nine", "five", "nine"], "one"]
    assert utterances[2]["columns"] == [[None, "oh", "oh"]]
    assert utterances[3]["columns"] == [
        ["one", "one", None],
        ["two", "two", None],
        ["three", "three", None],
        ["four", None, None],
    ]
    assert [each["better"] for each in utterances] == [1, 0, None, 0]
    assert utterances[2]["systems"][0] == {"score": None, "edits": [0, 0, 1], "missing": False}
    assert utterances[3]["systems"][1] == {"score": 100, "edits": [0, 4, 0], "missing": True}
    assert content()["comparison"]["tests"][0]["name"] == "matched pairs of segments"


def test_groups_are_scored_together() -> None:
    page = content(speakers={"u1": "anna", "u2": "anna", "u4": "bo"})
    assert page["speakers"] == [
        {"label": "anna", "utterances": 2, "tokens": 5, "scores": [20, 20]},
        {"label": "bo", "utterances": 1, "tokens": 4, "scores": [25, 100]},
        {"label": "(unknown)", "utterances": 1, "tokens": 0, "scores": [None, None]},
    ]
    assert [each["speaker"] for each in page["utterances"]] == ["anna", "anna", "(unknown)", "bo"]
    assert [each["label"] for each in page["lengths"]] == ["0", "2", "3", "4"]
    assert [page["lengths"][each["group"]]["label"] for each in page["utterances"]] == ["3", "2", "0", "4"]


def test_words_and_confusions_are_listed_for_each_system() -> None:
    page = content()
    assert {each["word"]: (each["count"], each["wrong"]) for each in page["words"]} == {
        "one": (2, [0, 1]),
        "two": (1, [0, 1]),
        "three": (1, [0, 1]),
        "four": (1, [1, 1]),
        "nine": (1, [1, 0]),
        "five": (3, [0, 1]),
    }
    assert page["words"][0]["word"] == "four"
    assert ["nine", "five", 1] in page["systems"][0]["confusions"]
    assert [None, "oh", 1] in page["systems"][1]["confusions"]
    assert page["systems"][0]["table"]["words"] == ["nine", "five"]


def test_one_system_is_compared_with_none() -> None:
    page = page_content("Test", [error_system("a", REPORTS[0])], links={"u2": "a%20b.wav#t=0,1"})
    assert page["comparison"] is None
    assert page["speakers"] == []
    assert page["utterances"][0]["columns"] == ["five", ["nine", "five"], "one"]
    assert [each.get("audio") for each in page["utterances"]] == [None, "a%20b.wav#t=0,1", None, None]
    assert "better" not in page["utterances"][0]


def test_characters_are_a_unit_too() -> None:
    report = score_words({"u": "ab c"}, {"u": "abc"}, "char")
    page = page_content("Test", [error_system("a", report)])
    assert (page["metric"], page["unit"]) == ("CER", "character")
    assert page["utterances"][0]["columns"] == ["a", "b", [" ", None], "c"]


@pytest.mark.parametrize("name", ["bleu", "chrf", "ter"])
def test_translations_have_sentence_scores_and_the_words_of_the_metric(name: str) -> None:
    reference = sentences(30)
    outputs = spoilt(reference, 0.3, 1), spoilt(reference, 0.2, 2)
    ids = [str(number) for number in range(30)]
    metric = TextMetric(name)  # type: ignore[arg-type]
    page = page_content("T", [text_system(name, metric, ids, reference, output) for output in outputs])
    peer = {"bleu": sacrebleu.BLEU(), "chrf": sacrebleu.CHRF(), "ter": sacrebleu.TER()}[name]
    sentence = sacrebleu.BLEU(effective_order=True) if name == "bleu" else peer
    for place, output in enumerate(outputs):
        system = page["systems"][place]
        assert system["score"] == pytest.approx(peer.corpus_score(output, [reference]).score)
        assert system["signature"] == str(peer.get_signature())
        for i, each in enumerate(page["utterances"]):
            assert each["systems"][place]["score"] == pytest.approx(
                sentence.sentence_score(output[i], [reference[i]]).score
            )
    for group in page["lengths"]:
        members = [i for i, each in enumerate(page["utterances"]) if page["lengths"][each["group"]] == group]
        texts = [outputs[0][i] for i in members], [[reference[i] for i in members]]
        assert group["scores"][0] == pytest.approx(peer.corpus_score(*texts).score)
    for each in page["utterances"]:
        scores = [system["score"] * (1 if page["higher_is_better"] else -1) for system in each["systems"]]
        assert each["better"] == (None if scores[0] == scores[1] else int(scores[1] > scores[0]))


def test_words_of_bleu_are_those_of_its_tokenizer() -> None:
    system = text_system("a", TextMetric("bleu"), ["1"], ["Ja, gut."], ["Ja gut."])
    assert [edit.reference for edit in system.report.utterances[0].alignment] == ["Ja", ",", "gut", "."]
    lower = text_system("a", TextMetric("bleu", lower_case=True), ["1"], ["Ja"], ["ja"])
    assert lower.report.counts.errors == 0
    characters = text_system("a", TextMetric("bleu", tokenize="zh"), ["1"], ["你好吗"], ["你好"])
    assert len(characters.report.utterances[0].reference) == 3
