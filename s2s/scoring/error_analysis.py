"""Where the errors are: by length, by speaker, by word, and which word is taken for which."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from s2s.scoring.word_errors import ErrorReport, UtteranceErrors

FEW_LENGTHS = 12  # where no reference is longer, every length is a group of its own
LENGTHS = (0, 2, 5, 10, 15, 20, 30, 50, 100, 200)  # else groups end at these


@dataclass(frozen=True)
class Group:
    """Utterances that have something in common, by their places in the test set."""

    label: str
    members: tuple[int, ...]


@dataclass(frozen=True)
class WrongWord:
    """A word of the references: how often it is there, and how often a system substitutes or deletes it."""

    word: str
    count: int
    wrong: int


@dataclass(frozen=True)
class Confusion:
    """A reference word (None: nothing, the other is inserted) taken for another (None: deleted), and how often."""

    reference: str | None
    hypothesis: str | None
    count: int


@dataclass(frozen=True)
class ConfusionTable:
    """Counts of reference words (rows) against hypothesis words (columns), the same words on both sides.

    `counts` has a last column for what is deleted and one before it for other words, a last row for what is inserted
    and one before it for other words.
    """

    words: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


def by_length(utterances: Sequence[UtteranceErrors]) -> list[Group]:
    """Groups by the length of the reference, shortest first."""
    lengths = [len(utterance.reference) for utterance in utterances]
    few = max(lengths, default=0) <= FEW_LENGTHS
    ends = tuple(range(FEW_LENGTHS + 1)) if few else LENGTHS
    members: defaultdict[int, list[int]] = defaultdict(list)
    for place, length in enumerate(lengths):
        members[bisect_left(ends, length)].append(place)
    return [Group(_span(ends, group), tuple(members[group])) for group in sorted(members)]


def by_speaker(utterances: Sequence[UtteranceErrors], speakers: Mapping[str, str]) -> list[Group]:
    """Groups by who spoke, in alphabetical order; those of no known speaker last."""
    members: defaultdict[str, list[int]] = defaultdict(list)
    for place, utterance in enumerate(utterances):
        members[speakers.get(utterance.id, "")].append(place)
    return [Group(name or "(unknown)", tuple(members[name])) for name in sorted(members, key=lambda n: (not n, n))]


def wrong_words(report: ErrorReport) -> list[WrongWord]:
    """The words that are substituted or deleted, most often wrong first, then in the order of the references."""
    counts: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    for pair, count in _pairs(report).items():
        if pair[0] is not None:
            counts[pair[0]] += count
            wrong[pair[0]] += count * (pair[0] != pair[1])
    return [WrongWord(word, counts[word], count) for word, count in wrong.most_common() if count]


def confusions(report: ErrorReport) -> list[Confusion]:
    """Substitutions, deletions and insertions, most frequent first, then in the order of the references."""
    return [Confusion(*pair, count) for pair, count in _pairs(report).most_common() if pair[0] != pair[1]]


def confusion_table(report: ErrorReport, size: int = 12) -> ConfusionTable:
    """The `size` words that are most often substituted, or put for another."""
    pairs = _pairs(report)
    involved: Counter[str] = Counter()
    for (reference, hypothesis), count in pairs.items():
        if reference is not None and hypothesis is not None and reference != hypothesis:
            involved.update({reference: count})
            involved.update({hypothesis: count})
    words = tuple(word for word, _ in involved.most_common(size))
    others = len(words)
    places: dict[str | None, int] = {None: others + 1, **{word: place for place, word in enumerate(words)}}
    counts = [[0] * (others + 2) for _ in range(others + 2)]
    for (reference, hypothesis), count in pairs.items():
        counts[places.get(reference, others)][places.get(hypothesis, others)] += count
    return ConfusionTable(words, tuple(map(tuple, counts)))


def aligned_columns(utterances: Sequence[UtteranceErrors]) -> list[tuple[str | None, ...]]:
    """Systems beside one reference: columns of a reference word (None: inserted) and each system's (None: nothing)."""
    gaps: list[list[list[str | None]]] = []  # by place in the reference, by system
    words: list[list[str | None]] = []
    for utterance in utterances:
        inserted: list[list[str | None]] = [[]]
        heard: list[str | None] = []
        for edit in utterance.alignment:
            if edit.kind == "insert":
                inserted[-1].append(edit.hypothesis)
            else:
                heard.append(edit.hypothesis)
                inserted.append([])
        gaps.append(inserted)
        words.append(heard)
    columns: list[tuple[str | None, ...]] = []
    reference = utterances[0].reference
    for place in range(len(reference) + 1):
        here = [system[place] for system in gaps]
        for i in range(max(map(len, here))):
            columns.append((None, *(row[i] if i < len(row) else None for row in here)))
        if place < len(reference):
            columns.append((reference[place], *(system[place] for system in words)))
    return columns


def _pairs(report: ErrorReport) -> Counter[tuple[str | None, str | None]]:
    return Counter((edit.reference, edit.hypothesis) for utterance in report.utterances for edit in utterance.alignment)


def _span(ends: Sequence[int], group: int) -> str:
    if group == len(ends):
        return f"over {ends[-1]}"
    start = ends[group - 1] + 1 if group else 0
    return str(start) if start == ends[group] else f"{start}-{ends[group]}"
