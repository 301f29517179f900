"""What a simultaneous system wrote and when: SimulEval's `instances.log`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from s2s.errors import UserError, nearest
from s2s.scoring.json_lines import JsonLine

UNITS = ("word", "char")
Source = Literal["speech", "text"]


@dataclass(frozen=True)
class Instance:
    """One sentence: how much of the source was read before each of its U target units was written.

    Delays, elapsed times and the source length are milliseconds of speech or words of text. `elapsed` has the time
    spent computing added, None where it was not recorded; `target_length` is the reference's length, as SimulEval
    counts it, or U without a reference.
    """

    index: int
    delays: tuple[float, ...]
    elapsed: tuple[float, ...] | None
    source_length: float
    target_length: int


@dataclass(frozen=True)
class InstancesLog:
    """The sentences of a log, in its order."""

    source: Source
    unit: str
    has_references: bool
    instances: tuple[Instance, ...]


def read_instances(lines: Sequence[JsonLine], unit: str = "word") -> InstancesLog:
    """The sentences of an `instances.log` of SimulEval, text out of speech or text.

    `unit` is what was written with one delay each: words or, for scripts without spaces, characters (SimulEval's
    `--eval-latency-unit`). The source is text where it has as many words as `source_length` says. Raises UserError,
    with file and line, for what is missing, of another kind, or does not agree.
    """
    if unit not in UNITS:
        raise UserError(f"unknown unit '{unit}': expected word or char.{nearest(unit, UNITS)}")
    first = lines[0]
    source = _source(first)
    has_elapsed = source == "speech" and any(any(line.times("elapsed")) for line in lines if "elapsed" in line)
    instances = []
    seen: dict[int, str] = {}
    for line in lines:
        if _source(line) != source:
            raise UserError(f"{line.where}: a source of {_source(line)}, but of {source} at {first.where}")
        for key in ("reference", "elapsed"):
            if (key in line) != (key in first):
                here, there = (line, first) if key in line else (first, line)
                raise UserError(f"{there.where}: no '{key}', but {here.where} has one: all lines must, or none")
        instance = _instance(line, unit, has_elapsed)
        if instance.index in seen:
            raise UserError(f"{line.where}: index {instance.index} stands already at {seen[instance.index]}")
        seen[instance.index] = line.where
        instances.append(instance)
    return InstancesLog(source, unit, "reference" in first, tuple(instances))


def _source(line: JsonLine) -> Source:
    source, length = line.get("source"), line.number("source_length")
    return "text" if isinstance(source, str) and len(source.split()) == length else "speech"


def _instance(line: JsonLine, unit: str, has_elapsed: bool) -> Instance:
    for key, what, remedy in (
        ("durations", "speech", "only text outputs are scored"),
        ("prediction_spm", "SentencePiece units", "run SimulEval with --eval-latency-unit word or char"),
    ):
        if key in line:
            raise UserError(f"{line.where}: the output is {what} (it has '{key}'); {remedy}")
    index, delays, prediction = line.get("index"), line.times("delays"), line.text("prediction")
    if not isinstance(index, int) or isinstance(index, bool):
        raise line.wrong("index", "a whole number")
    elapsed = line.times("elapsed") if "elapsed" in line else None
    written = len(prediction.split() if unit == "word" else prediction.replace(" ", ""))
    other = "character, --unit char" if unit == "word" else "word, --unit word"
    counts: list[tuple[float, str]] = [(written, f"{unit}s in 'prediction'; expected as many (a time a {other})")]
    if "prediction_length" in line:
        counts.append((line.number("prediction_length"), "as 'prediction_length'; expected the same"))
    if elapsed is not None:
        counts.append((len(elapsed), "in 'elapsed'; expected as many"))
    for count, what in counts:
        if count != len(delays):
            raise UserError(f"{line.where}: {len(delays)} times in 'delays', but {count:g} {what}")
    source_length = line.number("source_length")
    if source_length <= 0:
        raise line.wrong("source_length", "a number above 0")
    target_length = _reference_length(line, unit) if "reference" in line else len(delays)
    return Instance(index, delays, elapsed if has_elapsed else None, source_length, target_length)


def _reference_length(line: JsonLine, unit: str) -> int:
    """SimulEval's count: a word more for every doubled space, and spaces within are characters."""
    reference = line.text("reference")
    length = len(reference.split(" ")) if unit == "word" else len(reference.strip())
    if not length:
        raise line.wrong("reference", "a text, or null for none")
    return length
