"""What the error page shows, as JSON: scores, where the errors are, and every utterance aligned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from s2s.scoring.comparison import Comparison, comparison_json
from s2s.scoring.error_analysis import (
    Group,
    aligned_columns,
    by_length,
    by_speaker,
    confusion_table,
    confusions,
    wrong_words,
)
from s2s.scoring.text_metrics import TextMetric, score_of, text_statistics
from s2s.scoring.word_errors import ErrorReport, score_words

MOST = 300  # rows of a list of words


@dataclass(frozen=True)
class System:
    """One system's output: its errors, aligned, and its score, which may be another than the error rate.

    `statistics` (N, K) of the utterances give the score of any of them together by `score`; None where that is
    undefined. `sentences` (N,) are the scores of single utterances.
    """

    name: str
    metric: str
    higher_is_better: bool
    signature: str
    report: ErrorReport
    statistics: np.ndarray
    score: Callable[[np.ndarray], float | None]
    sentences: tuple[float | None, ...]

    def score_together(self, members: Sequence[int]) -> float | None:
        """The score of some of the utterances."""
        return self.score(self.statistics[list(members)].sum(0))


def error_system(name: str, report: ErrorReport) -> System:
    """A recogniser, by its error rate in percent."""
    rows = [(utterance.counts.errors, utterance.counts.references) for utterance in report.utterances]
    statistics = np.array(rows, dtype=np.float64)
    metric = "WER" if report.unit == "word" else "CER"
    sentences = tuple(map(_rate, statistics))
    return System(name, metric, False, report.signature, report, statistics, _rate, sentences)


def text_system(
    name: str, metric: TextMetric, ids: Sequence[str], reference: Sequence[str], output: Sequence[str]
) -> System:
    """A translation system, by BLEU, chrF or TER; aligned are the words that the metric's tokenizer makes."""
    corpus, sentence = metric.build(), metric.build(of_sentences=True)
    statistics = text_statistics(corpus, [reference], output)
    words = [dict(zip(ids, map(corpus._preprocess_segment, texts), strict=True)) for texts in (reference, output)]
    return System(
        name,
        score_of(corpus, statistics.sum(0)).name,
        metric.higher_is_better,
        corpus.get_signature().format(),
        score_words(words[0], words[1]),
        statistics,
        lambda total: float(score_of(corpus, total).score),
        tuple(float(score_of(sentence, row).score) for row in statistics),
    )


def page_content(
    title: str,
    systems: Sequence[System],
    speakers: Mapping[str, str] | None = None,
    comparison: Comparison | None = None,
    links: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The content of a page about one system, or two on the same references with their comparison.

    `speakers` and `links`, addresses of audio files, are by utterance id.
    """
    first = systems[0]
    lengths = by_length(first.report.utterances)
    group_of = {place: number for number, group in enumerate(lengths) for place in group.members}
    utterances = []
    for place, utterance in enumerate(first.report.utterances):
        row = {
            "id": utterance.id,
            "length": len(utterance.reference),
            "group": group_of[place],
            "columns": _columns(systems, place),
            "systems": [_sentence(system, place) for system in systems],
        }
        if speakers is not None:
            row["speaker"] = speakers.get(utterance.id, "(unknown)")
        if len(systems) == 2:
            row["better"] = _better(systems, place)
        if links is not None and utterance.id in links:
            row["audio"] = links[utterance.id]
        utterances.append(row)
    return {
        "title": title,
        "metric": first.metric,
        "higher_is_better": first.higher_is_better,
        "unit": "word" if first.report.unit == "word" else "character",
        "tokens": first.report.counts.references,
        "systems": [_system(system) for system in systems],
        "comparison": comparison_json(comparison, (systems[0].name, systems[1].name)) if comparison else None,
        "lengths": _groups(systems, lengths),
        "speakers": _groups(systems, by_speaker(first.report.utterances, speakers)) if speakers is not None else [],
        "words": _words(systems),
        "utterances": utterances,
    }


def _system(system: System) -> dict[str, Any]:
    report, table = system.report, confusion_table(system.report)
    return {
        "name": system.name,
        "score": system.score_together(range(report.sentences)),
        "signature": system.signature,
        "errors": report.counts.errors,
        "edits": [report.counts.substitutions, report.counts.deletions, report.counts.insertions],
        "wrong": report.sentence_errors,
        "missing": len(report.missing),
        "extra": len(report.extra),
        "empty": sum(not utterance.hypothesis for utterance in report.utterances),
        "confusions": [[each.reference, each.hypothesis, each.count] for each in confusions(report)[:MOST]],
        "table": {"words": table.words, "counts": table.counts},
    }


def _sentence(system: System, place: int) -> dict[str, Any]:
    utterance = system.report.utterances[place]
    counts = utterance.counts
    return {
        "score": system.sentences[place],
        "edits": [counts.substitutions, counts.deletions, counts.insertions],
        "missing": utterance.missing,
    }


def _columns(systems: Sequence[System], place: int) -> list[str | list[str | None]]:
    """A word alone where all are equal, to keep the page small."""
    columns = aligned_columns([system.report.utterances[place] for system in systems])
    return [column[0] if column[0] and len(set(column)) == 1 else list(column) for column in columns]


def _better(systems: Sequence[System], place: int) -> int | None:
    """Which system is better at an utterance, 0 or 1; by errors where the error rate is the score."""
    first = systems[0]
    if first.metric in ("WER", "CER"):
        values = [float(-system.statistics[place, 0]) for system in systems]
    else:
        scores = [float(system.sentences[place] or 0) for system in systems]
        values = scores if first.higher_is_better else [-score for score in scores]
    return None if values[0] == values[1] else int(values[1] > values[0])


def _groups(systems: Sequence[System], groups: Sequence[Group]) -> list[dict[str, Any]]:
    utterances = systems[0].report.utterances
    return [
        {
            "label": group.label,
            "utterances": len(group.members),
            "tokens": sum(len(utterances[place].reference) for place in group.members),
            "scores": [system.score_together(group.members) for system in systems],
        }
        for group in groups
    ]


def _words(systems: Sequence[System]) -> list[dict[str, Any]]:
    found = [{each.word: each for each in wrong_words(system.report)} for system in systems]
    total: Counter[str] = Counter()
    for words in found:
        total.update({word: each.wrong for word, each in words.items()})
    return [
        {
            "word": word,
            "count": next(words[word].count for words in found if word in words),
            "wrong": [words[word].wrong if word in words else 0 for words in found],
        }
        for word, _ in total.most_common(MOST)
    ]


def _rate(total: np.ndarray) -> float | None:
    return float(100 * total[0] / total[1]) if total[1] else None
