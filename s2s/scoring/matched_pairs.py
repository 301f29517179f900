"""Matched-pairs test of word errors: NIST's MAPSSWE.

Gillick and Cox 1989, "Some statistical issues in the comparison of speech recognition algorithms", ICASSP, section 4;
Pallett et al. 1990, "Tools for the analysis of benchmark speech recognition tests", ICASSP.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from s2s.scoring.word_errors import UtteranceErrors

BUFFER = 2  # words that both systems have right between two segments, as in NIST's sc_stats


@dataclass(frozen=True)
class MatchedPairs:
    """The mean difference of errors a segment, and how far it is from 0 in standard errors.

    `statistic` is W = mean / (s / sqrt(n)), standard normal for large n where the systems are equally good; it and the
    two-sided `p_value` are None where n is below 2 or all differences are the same but not 0.
    """

    segments: int
    mean: float
    statistic: float | None
    p_value: float | None


def matched_pairs(errors: Sequence[tuple[int, int]]) -> MatchedPairs:
    """The test on the errors that two systems made in each segment; second minus first."""
    differences = [second - first for first, second in errors]
    count = len(differences)
    mean = sum(differences) / count if count else 0.0
    if not any(differences):
        return MatchedPairs(count, mean, 0.0, 1.0)
    variance = sum((each - mean) ** 2 for each in differences) / (count - 1) if count > 1 else 0.0
    if variance == 0:
        return MatchedPairs(count, mean, None, None)
    statistic = mean / math.sqrt(variance / count)
    return MatchedPairs(count, mean, statistic, math.erfc(abs(statistic) / math.sqrt(2)))


def segment_errors(
    pairs: Iterable[tuple[UtteranceErrors, UtteranceErrors]], buffer: int | None = BUFFER
) -> list[tuple[int, int]]:
    """The errors of two systems in each segment with any, segments being what can be taken for independent.

    A segment goes from an error of either system to the last one before `buffer` words in a row that both have right,
    and never beyond the utterance. None makes each utterance with an error one segment.
    """
    apart = math.inf if buffer is None else buffer
    segments: list[tuple[int, int]] = []
    for first, second in pairs:
        right = apart  # words in a row that both have right
        for place, errors in enumerate(zip(_errors_by_place(first), _errors_by_place(second), strict=True)):
            if any(errors):
                before = segments.pop() if right < apart else (0, 0)
                segments.append((before[0] + errors[0], before[1] + errors[1]))
                right = 0
            elif place % 2:
                right += 1
    return segments


def _errors_by_place(utterance: UtteranceErrors) -> list[int]:
    """Errors at 2n + 1 places of a reference of n words: before the first word, at it, before the second, ..."""
    places = [0] * (2 * len(utterance.reference) + 1)
    word = 0
    for edit in utterance.alignment:
        if edit.kind == "insert":
            places[2 * word] += 1
        else:
            places[2 * word + 1] = int(edit.kind != "equal")
            word += 1
    return places
