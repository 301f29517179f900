from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import sacrebleu
from parallel_toy import sentences, spoilt

from s2s.errors import UserError
from s2s.scoring.text_metrics import TextMetric, score_of, score_text, text_statistics

REFERENCE, OTHER = sentences(30), spoilt(sentences(30), 0.2, seed=5)
OUTPUT = spoilt(REFERENCE, 0.3)


def plain_bleu(reference: list[str], output: list[str]) -> float:
    """Papineni et al. 2002, equation 4, of one reference of words, in percent; every order must have a match."""
    matched, total = [0] * 4, [0] * 4
    for right, got in zip(reference, output, strict=True):
        for n in range(4):
            grams = [
                Counter(tuple(words[i : i + n + 1]) for i in range(len(words) - n))
                for words in (right.split(), got.split())
            ]
            matched[n] += sum((grams[0] & grams[1]).values())
            total[n] += sum(grams[1].values())
    lengths = sum(len(text.split()) for text in reference), sum(len(text.split()) for text in output)
    penalty = min(1.0, math.exp(1 - lengths[0] / lengths[1]))
    return 100 * penalty * math.exp(sum(math.log(m / t) for m, t in zip(matched, total, strict=True)) / 4)


def test_bleu_of_tokenised_text_is_the_papers() -> None:
    score = score_text(TextMetric("bleu", tokenize="none"), [REFERENCE], OUTPUT)
    assert score.score == pytest.approx(plain_bleu(REFERENCE, OUTPUT), rel=1e-12)
    shorter = [" ".join(text.split()[:-1]) or text for text in OUTPUT]
    score = score_text(TextMetric("bleu", tokenize="none"), [REFERENCE], shorter)
    assert score.details["bp"] < 1
    assert score.score == pytest.approx(plain_bleu(REFERENCE, shorter), rel=1e-12)


@pytest.mark.parametrize(
    ("metric", "peer"),
    [
        (TextMetric("bleu"), sacrebleu.BLEU()),
        (TextMetric("bleu", True, "char"), sacrebleu.BLEU(lowercase=True, tokenize="char")),
        (TextMetric("chrf"), sacrebleu.CHRF()),
        (TextMetric("chrf", True, word_order=2), sacrebleu.CHRF(lowercase=True, word_order=2)),
        (TextMetric("ter"), sacrebleu.TER()),
        (TextMetric("ter", case_sensitive=True), sacrebleu.TER(case_sensitive=True)),
    ],
)
def test_score_signature_and_line_are_sacrebleus(metric: TextMetric, peer: sacrebleu.BLEU) -> None:
    references = [REFERENCE, OTHER]
    score = score_text(metric, references, OUTPUT)
    expected = peer.corpus_score(OUTPUT, references)
    assert (score.name, score.score) == (expected.name, expected.score)
    assert score.signature == str(peer.get_signature())
    assert score.line == expected.format(signature=score.signature)
    assert "nrefs:2" in score.signature


def test_sentences_are_scored_as_sacrebleu_scores_sentences() -> None:
    short = [*REFERENCE[:5], "Hund"]
    for metric, peer in (
        (TextMetric("bleu"), sacrebleu.BLEU(effective_order=True)),
        (TextMetric("ter"), sacrebleu.TER()),
    ):
        found = score_text(metric, [short], short).sentences
        assert found == tuple(peer.sentence_score(text, [text]).score for text in short)
    assert score_text(TextMetric("bleu"), [short], short).sentences[-1] == pytest.approx(100)


def test_statistics_of_segments_add_up_to_the_score() -> None:
    metric = TextMetric("chrf").build()
    rows = text_statistics(metric, [REFERENCE], OUTPUT)
    assert rows.shape == (30, 18)
    halves = (
        text_statistics(metric, [REFERENCE[:10]], OUTPUT[:10]),
        text_statistics(metric, [REFERENCE[10:]], OUTPUT[10:]),
    )
    np.testing.assert_array_equal(rows, np.concatenate(halves))
    assert score_of(metric, rows.sum(0)).score == sacrebleu.CHRF().corpus_score(OUTPUT, [REFERENCE]).score


def test_empty_outputs_and_references_are_scored() -> None:
    assert score_text(TextMetric("bleu"), [["ein Hund", ""]], ["", ""]).score == 0
    assert score_text(TextMetric("ter"), [["ein Hund", ""]], ["", "x"]).score == pytest.approx(150)
    assert score_text(TextMetric("chrf"), [["ein Hund", ""]], ["ein Hund", ""]).score == pytest.approx(100)


def test_only_ter_is_better_when_lower() -> None:
    assert [TextMetric(name).higher_is_better for name in ("bleu", "chrf", "ter")] == [True, True, False]


def test_a_metric_or_a_tokenizer_that_does_not_exist_is_refused() -> None:
    with pytest.raises(UserError, match=r"unknown metric 'blue': expected bleu, chrf, ter\. Did you mean 'bleu'\?"):
        TextMetric("blue")  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"--tokenize 13: expected one of none, zh, 13a, .*Did you mean '13a'\?"):
        TextMetric("bleu", tokenize="13").build()


def test_a_tokenizer_that_needs_what_is_not_installed_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> object:
        raise RuntimeError("\nPlease install\n MeCab")

    monkeypatch.setattr("sacrebleu.metrics.bleu._get_tokenizer", missing)
    with pytest.raises(UserError, match=r"--tokenize ja-mecab: sacrebleu cannot load it: Please install MeCab"):
        TextMetric("bleu", tokenize="ja-mecab").build()
