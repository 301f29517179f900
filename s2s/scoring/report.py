"""An error report as text and as JSON."""

from __future__ import annotations

import unicodedata
from typing import Any

from s2s.scoring.word_errors import ErrorCounts, ErrorReport, UtteranceErrors

_RATES = {"word": "WER", "char": "CER"}
_OPERATIONS = {"equal": " ", "substitute": "S", "delete": "D", "insert": "I"}


def rate_line(report: ErrorReport) -> str:
    """As Kaldi's compute-wer writes it: `%WER 4.49 [ 12 / 267, 2 ins, 3 del, 7 sub ]`; `%CER` for characters."""
    return f"%{_RATES[report.unit]} {_percent(report.counts)}"


def sentence_line(report: ErrorReport) -> str:
    """As Kaldi's compute-wer writes it: `%SER 10.00 [ 3 / 30 ]`."""
    wrong, total = report.sentence_errors, report.sentences
    return f"%SER {100 * wrong / total:.2f} [ {wrong} / {total} ]"


def alignment_block(utterance: UtteranceErrors) -> str:
    """Four lines: the id with its counts, then reference, hypothesis and operations in columns.

    An absent token is a row of stars, a space among characters is ▁; S a substitution, D a deletion, I an insertion.
    """
    rows: tuple[list[str], list[str], list[str]] = ([], [], [])
    for edit in utterance.alignment:
        tokens = [(token or "").replace(" ", "▁") for token in (edit.reference, edit.hypothesis)]
        width = max(1, *map(_columns, tokens))
        cells = (tokens[0] or "*" * width, tokens[1] or "*" * width, _OPERATIONS[edit.kind])
        for row, cell in zip(rows, cells, strict=True):
            row.append(cell + " " * (width - _columns(cell)))
    note = " (no hypothesis)" if utterance.missing else ""
    lines = [f"{utterance.id}{note} {_percent(utterance.counts)}"]
    lines += [f"{name}: {' '.join(row)}".rstrip() for name, row in zip(("REF", "HYP", "OPS"), rows, strict=True)]
    return "\n".join(lines)


def report_json(report: ErrorReport, alignments: bool = False) -> dict[str, Any]:
    """The numbers of a report; `alignments` adds every utterance. A rate without reference tokens is None."""
    content: dict[str, Any] = {"signature": report.signature, "unit": report.unit, **_counts_json(report.counts)}
    if alignments:
        content["utterances"] = [
            {
                "id": utterance.id,
                "missing": utterance.missing,
                **_counts_json(utterance.counts),
                "alignment": [[edit.kind, edit.reference, edit.hypothesis] for edit in utterance.alignment],
            }
            for utterance in report.utterances
        ]
    return content


def _percent(counts: ErrorCounts) -> str:
    rate = f"{100 * counts.rate:.2f}" if counts.references else "-"
    return (
        f"{rate} [ {counts.errors} / {counts.references}, {counts.insertions} ins, "
        f"{counts.deletions} del, {counts.substitutions} sub ]"
    )


def _counts_json(counts: ErrorCounts) -> dict[str, Any]:
    return {
        "rate": counts.rate if counts.references else None,
        "errors": counts.errors,
        "references": counts.references,
        "hits": counts.hits,
        "substitutions": counts.substitutions,
        "deletions": counts.deletions,
        "insertions": counts.insertions,
    }


def _columns(text: str) -> int:
    """Terminal columns: two for a wide character, none for a combining one."""
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return len(text) + wide - sum(unicodedata.combining(character) > 0 for character in text)
