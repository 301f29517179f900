"""Latency and stability of streaming recognition, from the event log of `s2s stream --events`.

All times are seconds of audio, from the source's start. *Heard* is the audio that had been fed when something was
shown; with the wall clock in its place a latency has the time of computing in it (computation-aware, CA), which holds
where the audio was fed at real speed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from s2s.errors import UserError, nearest
from s2s.scoring.json_lines import JsonLine
from s2s.version import __version__

KINDS = ("partial", "final", "end")


@dataclass(frozen=True)
class Word:
    """A word and when it was said."""

    text: str
    start: float
    end: float


@dataclass(frozen=True)
class StreamEvent:
    """What was shown of one segment: its text from `start` to `end`, when `heard` was heard, `wall` s after the start.

    `words` is None where word times are not known. An event of kind "end" has no text.
    """

    kind: str
    text: str
    start: float
    end: float
    heard: float
    wall: float
    words: tuple[Word, ...] | None

    @property
    def shown(self) -> list[str]:
        """The texts of the words, or without words what white space separates."""
        return self.text.split() if self.words is None else [word.text for word in self.words]


@dataclass
class Latencies:
    """What was measured of some sources; latencies are pairs, of audio heard and of wall clock time.

    A first partial is late by when a segment's first text was shown less the start of its first word; a final by when
    it was shown less the end of its last word; a word of a final by when it and all before it were shown as they
    stayed less its end. Without word times the segment's own are taken, and words have no latency. A word is
    unstable when the next event of its segment changes or retracts it or one before it; each such event is a revision.
    Segments of which nothing was ever shown do not count.
    """

    first_partial: list[tuple[float, float]] = field(default_factory=list)
    final: list[tuple[float, float]] = field(default_factory=list)
    word: list[tuple[float, float]] = field(default_factory=list)
    segments: int = 0
    words: int = 0
    unstable: int = 0
    revisions: int = 0

    @property
    def unstable_word_ratio(self) -> float | None:
        """UPWR: unstable words of partials for each word of the finals. Shangguan et al. 2020, arXiv:2006.01416."""
        return self.unstable / self.words if self.words else None

    @property
    def unstable_segment_ratio(self) -> float | None:
        """UPSR: revisions for each segment. Shangguan et al. 2020, arXiv:2006.01416."""
        return self.revisions / self.segments if self.segments else None

    def add(self, other: Latencies) -> None:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


@dataclass(frozen=True)
class StreamReport:
    """What was measured of every source, in the order of their first events.

    `too_fast` names sources whose wall clock stood below half of their audio at the end: they were fed faster than
    real speed.
    """

    sources: dict[str, Latencies]
    too_fast: tuple[str, ...]

    @property
    def overall(self) -> Latencies:
        total = Latencies()
        for latencies in self.sources.values():
            total.add(latencies)
        return total

    @property
    def signature(self) -> str:
        """What the numbers depend on besides the log."""
        return f"stability:arXiv-2006.01416|unstable:from-first-change|percentile:linear|s2s:{__version__}"


def read_stream_events(lines: Sequence[JsonLine]) -> dict[str, list[StreamEvent]]:
    """The events of every source, in order; sources may be interleaved.

    Raises UserError, with file and line, for what is missing, of another kind or out of order, and for a source
    without an end.
    """
    sources: dict[str, list[StreamEvent]] = {}
    where: dict[str, str] = {}  # of the last event of a source
    for line in lines:
        name, event = line.text("source"), _event(line)
        earlier = sources.setdefault(name, [])
        if earlier:
            last = earlier[-1]
            if last.kind == "end":
                raise UserError(
                    f"{line.where}: source '{name}' ended already at {where[name]}: name each run by itself"
                )
            for key, now, before in (("heard", event.heard, last.heard), ("wall", event.wall, last.wall)):
                if now < before:
                    raise UserError(f"{line.where}: '{key}' falls from {before:g} to {now:g} since {where[name]}")
        earlier.append(event)
        where[name] = line.where
    for name, events in sources.items():
        if events[-1].kind != "end":
            raise UserError(f"{where[name]}: source '{name}' has no 'end' after this: the log is cut short; run again")
    return sources


def score_stream(events: dict[str, list[StreamEvent]]) -> StreamReport:
    """Latency and stability of every source."""
    sources = {}
    for name, heard in events.items():
        latencies = sources[name] = Latencies()
        segment: list[StreamEvent] = []
        for event in heard:
            segment.append(event)
            if event.kind != "partial":
                if any(event.shown for event in segment):
                    latencies.add(_segment(segment))
                segment = []
    too_fast = tuple(name for name, heard in events.items() if heard[-1].wall < heard[-1].heard / 2)
    return StreamReport(sources, too_fast)


def stream_table(report: StreamReport) -> str:
    """The measures of all sources together, as lines without the last end."""
    overall = report.overall
    lines = [
        f"{len(report.sources)} sources, {overall.segments} segments, {overall.words} words; seconds",
        f"{'':16}" + "".join(f"{title:>9}" for title in ("mean", "median", "p90", "count")),
    ]
    for name, summary in _summaries(overall).items():
        label = name.replace("_CA", " CA").replace("_", " ")
        if summary is None:
            lines.append(f"{label:16}" + f"{'-':>9}" * 3 + f"{0:>9}")
        else:
            numbers = "".join(f"{summary[key]:>9.3f}" for key in ("mean", "median", "p90"))
            lines.append(f"{label:16}{numbers}{summary['count']:>9}")
    words, segments = overall.unstable_word_ratio, overall.unstable_segment_ratio
    lines.append(
        f"UPWR {'-' if words is None else f'{100 * words:.2f}%'} [ {overall.unstable} / {overall.words} words ], "
        f"UPSR {'-' if segments is None else f'{segments:.3f}'} [ {overall.revisions} / {overall.segments} segments ]"
    )
    return "\n".join([*lines, report.signature])


def stream_json(report: StreamReport) -> dict[str, Any]:
    """The numbers of all sources together, and under `sources` of each; null where there is nothing to measure."""
    sources = {name: _content(latencies) for name, latencies in report.sources.items()}
    return {"signature": report.signature, **_content(report.overall), "sources": sources}


def _event(line: JsonLine) -> StreamEvent:
    kind = line.text("event")
    if kind not in KINDS:
        raise UserError(f"{line.where}: event '{kind}'; expected partial, final or end.{nearest(kind, KINDS)}")
    heard, wall = line.number("heard"), line.number("wall")
    if kind == "end":
        return StreamEvent(kind, "", heard, heard, heard, wall, None)
    start, end = line.number("start"), line.number("end")
    if end < start:
        raise UserError(f"{line.where}: 'end' ({end:g}) lies before 'start' ({start:g})")
    text = line.text("text")
    words = None if line.get("words") is None else _words(line)
    if words is not None and bool(words) != bool(text.strip()):
        raise UserError(
            f"{line.where}: {len(words)} words, but the text is '{text}'; expected both or neither, or null"
        )
    return StreamEvent(kind, text, start, end, heard, wall, words)


def _words(line: JsonLine) -> tuple[Word, ...]:
    words = line.get("words")
    if not isinstance(words, list) or not all(isinstance(word, dict) for word in words):
        raise line.wrong("words", 'a list of {"text", "start", "end"}, or null')
    read = []
    for number, content in enumerate(words, start=1):
        word = JsonLine(f"{line.where}, word {number}", content)
        read.append(Word(word.text("text").strip(), word.number("start"), word.number("end")))
        if read[-1].end < read[-1].start:
            raise UserError(f"{word.where}: 'end' lies before 'start'")
    return tuple(read)


def _segment(events: list[StreamEvent]) -> Latencies:
    """Of the partials of one segment and its final, or the end of the source where it has none."""
    closing = events[-1]
    shown = [event.shown for event in events]
    found = Latencies(segments=1, words=len(shown[-1]))
    for earlier, later in pairwise(shown):
        lost = len(earlier) - _agreeing(earlier, later)
        found.unstable += lost
        found.revisions += lost > 0
    first = next((event for event in events if event.shown), None)
    if first is not None:
        found.first_partial.append(_late(first, first.words[0].start if first.words else first.start))
    if shown[-1]:
        found.final.append(_late(closing, closing.words[-1].end if closing.words else closing.end))
    stays = len(events) - 1  # since this event the word and all before it stood as they stayed
    agreeing = [_agreeing(words, shown[-1]) for words in shown]
    for i, word in reversed(list(enumerate(closing.words or ()))):
        while stays > 0 and agreeing[stays - 1] > i:
            stays -= 1
        found.word.append(_late(events[stays], word.end))
    return found


def _late(event: StreamEvent, said: float) -> tuple[float, float]:
    return event.heard - said, event.wall - said


def _agreeing(one: list[str], other: list[str]) -> int:
    """Words before the first that differs."""
    pairs = zip(one, other, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _content(latencies: Latencies) -> dict[str, Any]:
    return {
        **_summaries(latencies),
        "UPWR": latencies.unstable_word_ratio,
        "UPSR": latencies.unstable_segment_ratio,
        "unstable": latencies.unstable,
        "revisions": latencies.revisions,
        "words": latencies.words,
        "segments": latencies.segments,
    }


def _summaries(latencies: Latencies) -> dict[str, dict[str, float] | None]:
    summaries: dict[str, dict[str, float] | None] = {}
    for name in ("first_partial", "final", "word"):
        for suffix, side in (("", 0), ("_CA", 1)):
            values = [pair[side] for pair in getattr(latencies, name)]
            summaries[name + suffix] = _summary(values) if values else None
    return summaries


def _summary(values: list[float]) -> dict[str, float]:
    return {
        "mean": float(np.mean(values)),
        "median": float(np.median(values)),
        "p90": float(np.percentile(values, 90)),
        "count": len(values),
    }
