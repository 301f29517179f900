"""Transcripts of several speakers who talk at once, whose order does not matter."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import permutations

from s2s.errors import UserError
from s2s.scoring.word_errors import error_counts

MOST = 6  # all their orders are tried


def by_talker(
    references: Mapping[str, str], hypotheses: Mapping[str, str], change: str, lower_case: bool = False
) -> tuple[dict[str, str], dict[str, str]]:
    """Each speaker's words as an utterance of its own, `ID-1` and so on, in the order that has the fewest errors.

    The words of different speakers are parted by `change`. Scored, this is the concatenated minimum-permutation word
    error rate (cpWER, Watanabe et al. 2020, arXiv:2004.09249). A speaker more or less than in the reference is one of
    no words. An utterance without a hypothesis has none for each of its speakers.
    """
    found: dict[str, str] = {}
    expected: dict[str, str] = {}
    for key, reference in references.items():
        said = [part.strip() for part in reference.split(change)]
        if key not in hypotheses:
            expected.update({f"{key}-{i}": words for i, words in enumerate(said, start=1)})
            continue
        heard = [part.strip() for part in hypotheses[key].split(change)]
        if len(said) > MOST:
            raise UserError(f"utterance '{key}': {len(said)} speakers in the reference, expected at most {MOST}")
        heard = [*heard[: MOST - 1], " ".join(heard[MOST - 1 :])] if len(heard) > MOST else heard
        said, heard = _filled(said, len(heard)), _filled(heard, len(said))
        errors = [[_errors(one, other, lower_case) for other in heard] for one in said]
        order = min(permutations(range(len(said))), key=lambda order: sum(errors[i][j] for i, j in enumerate(order)))
        for i, j in enumerate(order, start=1):
            expected[f"{key}-{i}"], found[f"{key}-{i}"] = said[i - 1], heard[j]
    for key, words in hypotheses.items():
        if key not in references:
            found[key] = words
    return expected, found


def _filled(parts: list[str], count: int) -> list[str]:
    return parts + [""] * (count - len(parts))


def _errors(reference: str, hypothesis: str, lower_case: bool) -> int:
    pair = (text.lower() if lower_case else text for text in (reference, hypothesis))
    return error_counts(*(text.split() for text in pair)).errors
