"""Latency of simultaneous outputs: AL, LAAL, AP, DAL, ATD and YAAL, as SimulEval defines them.

In all, `times` are when each of U target units was written: delays, or with the time of computing in them elapsed
times, never falling; X is the length of the source, in milliseconds of speech or in words of text like the times;
Y the length of the reference, in target units.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from s2s.errors import UserError
from s2s.scoring.instances import Instance, InstancesLog, Source
from s2s.version import __version__

MEASURES = ("AL", "LAAL", "AP", "DAL", "ATD", "YAAL")
_TOKEN_LENGTHS = {"speech": (300, 0), "text": (1, 1)}  # of source and target tokens in ATD: ms, or words


def average_lagging(times: Sequence[float], source_length: float, target_length: float) -> float:
    """AL, how far the output is behind one that writes Y units evenly while the source goes by.

    The mean of `times[i] - i X/Y` up to the first unit written with all of the source read; the first time alone where
    it lies beyond the source. LAAL is the same with max(U, Y) for Y. Ma et al. 2019 (STACL), arXiv:1810.08398, with Y
    of the reference as in Ma et al. 2020 (SimulEval), arXiv:2007.16193, equation 8; LAAL: Papi et al. 2022,
    arXiv:2206.05807, and Polák et al. 2022, arXiv:2204.06028.
    """
    if times[0] > source_length:
        return times[0]
    last = next((i for i, time in enumerate(times) if time >= source_length), len(times) - 1)
    return fmean(_lags(times[: last + 1], source_length, target_length))


def yet_another_average_lagging(times: Sequence[float], source_length: float, target_length: float) -> float | None:
    """YAAL: LAAL of the units that were written before the source ended; None where there is none.

    Units written at the end of the source or after it tell nothing of a policy. Polák et al. 2025, arXiv:2509.17349,
    short form, with Y' = max(U, Y): the mean of `times[i] - i X/Y'` over all i with `times[i] < X`.
    """
    simultaneous = [time for time in times if time < source_length]
    if not simultaneous:
        return None
    return fmean(_lags(simultaneous, source_length, max(len(times), target_length)))


def average_proportion(times: Sequence[float], source_length: float, target_length: float) -> float:
    """AP, the share of the source read when a unit is written: sum of times / (X Y).

    Cho and Esipova 2016, arXiv:1606.02012; above 1 where U is above Y or the times go beyond the source.
    """
    return sum(times) / (source_length * target_length)


def differentiable_average_lagging(times: Sequence[float], source_length: float) -> float:
    """DAL: the lagging of all units, where writing one takes at least X/U.

    The mean of `g'[i] - i X/U`, where `g'[0] = times[0]` and `g'[i] = max(times[i], g'[i-1] + X/U)`. Cherry and
    Foster 2019, arXiv:1906.00048.
    """
    step = source_length / len(times)
    total, written = 0.0, 0.0
    for i, time in enumerate(times):
        written = max(time, written + step) if i else time
        total += written - i * step
    return total / len(times)


def average_token_delay(
    delays: Sequence[float], elapsed: Sequence[float] | None = None, source_token: float = 300, target_token: float = 0
) -> float:
    """ATD: the mean time from the end of a source token to the end of the target token that goes with it.

    The source that was read between two writings is cut into tokens of `source_token`, the last one shorter; a target
    token takes `target_token` and, with `elapsed`, the time of computing that was spent on it. The t-th target token
    goes with the t-th source token, fewer by as many as the output is ahead, and with none that was not yet read.
    Kano et al. 2023, arXiv:2211.13173; SimulEval takes 300 ms and 0 for speech to text, 1 and 1 for text to text.
    """
    computing = [0.0] * len(delays)
    if elapsed is not None:
        spent = [late - early for late, early in zip(elapsed, delays, strict=True)]
        computing = [now - before for now, before in zip(spent, [0.0, *spent], strict=False)]
    source_ends: list[float] = [0.0]  # of token s at [s]; the first stands for "none"
    reached = end = total = 0.0
    ahead = 0
    for t, delay in enumerate(delays, start=1):
        if t == 1 or delay != delays[t - 2]:
            ahead = max(0, (t - 1) - (len(source_ends) - 1))
            whole, rest = divmod(delay - reached, source_token)
            for length in [source_token] * int(whole) + [rest] * (rest != 0):
                source_ends.append(source_ends[-1] + length)
            reached = delay
        partner = min(t - ahead, len(source_ends) - 1)
        end = max(delay, end) + target_token + computing[t - 1]
        total += end - source_ends[partner]
    return total / len(delays)


@dataclass(frozen=True)
class Means:
    """Every measure's mean; that of YAAL over the `simultaneous` sentences with a unit before the source ends."""

    scores: dict[str, float | None]
    simultaneous: int


@dataclass(frozen=True)
class LatencyReport:
    """Means over the sentences with a prediction; `aware` of computing is None where the log has no elapsed times."""

    source: Source
    unit: str
    has_references: bool
    sentences: int
    empty: int
    unaware: Means
    aware: Means | None

    @property
    def signature(self) -> str:
        """What the numbers depend on besides the log."""
        target = "reference" if self.has_references else "prediction"
        return (
            f"definitions:SimulEval-1.1.4|YAAL:arXiv-2509.17349|source:{self.source}|unit:{self.unit}|"
            f"target:{target}|s2s:{__version__}"
        )


def score_latency(log: InstancesLog) -> LatencyReport:
    """Every measure of a log; sentences without a prediction are left out, as SimulEval does.

    Raises UserError where no sentence has a prediction.
    """
    instances = [instance for instance in log.instances if instance.delays]
    if not instances:
        raise UserError(f"none of the {len(log.instances)} sentences has a prediction: latency is undefined")
    return LatencyReport(
        source=log.source,
        unit=log.unit,
        has_references=log.has_references,
        sentences=len(log.instances),
        empty=len(log.instances) - len(instances),
        unaware=_means(instances, log.source, aware=False),
        aware=_means(instances, log.source, aware=True) if instances[0].elapsed is not None else None,
    )


def latency_table(report: LatencyReport) -> str:
    """The measures in rows, CU and CA (computation-unaware and -aware) in columns, as lines without the last end."""
    columns = {"CU": report.unaware} | ({"CA": report.aware} if report.aware else {})
    unit = "milliseconds of speech" if report.source == "speech" else "words of text"
    lines = [
        f"{report.sentences} sentences ({report.empty} without a prediction, not counted), {unit}",
        "    " + "".join(f"{name:>11}" for name in columns),
    ]
    for name in MEASURES:
        cells = (means.scores[name] for means in columns.values())
        lines.append(f"{name:4}" + "".join(f"{'-' if cell is None else f'{cell:.3f}':>11}" for cell in cells))
    counts = ", ".join(f"{means.simultaneous} {name}" for name, means in columns.items())
    lines.append(f"YAAL is of the sentences with a {report.unit} before the source ends: {counts}")
    return "\n".join([*lines, report.signature])


def latency_json(report: LatencyReport) -> dict[str, Any]:
    """The numbers under SimulEval's names: `AL` and, computation-aware, `AL_CA`, which are absent without."""
    content: dict[str, Any] = {
        "signature": report.signature,
        "source": report.source,
        "sentences": report.sentences,
        "empty": report.empty,
    }
    for suffix, means in (("", report.unaware), ("_CA", report.aware)):
        if means is not None:
            content |= {name + suffix: value for name, value in means.scores.items()}
            content["YAAL_sentences" + suffix] = means.simultaneous
    return content


def _means(instances: Sequence[Instance], source: Source, aware: bool) -> Means:
    sentences = [_sentence(instance, source, aware) for instance in instances]
    known = {name: [value for row in sentences if (value := row[name]) is not None] for name in MEASURES}
    return Means({name: fmean(values) if values else None for name, values in known.items()}, len(known["YAAL"]))


def _lags(times: Sequence[float], source_length: float, target_length: float) -> list[float]:
    return [time - i * source_length / target_length for i, time in enumerate(times)]


def _sentence(instance: Instance, source: Source, aware: bool) -> dict[str, float | None]:
    times = instance.elapsed if aware and instance.elapsed is not None else instance.delays
    X, Y = instance.source_length, instance.target_length
    return {
        "AL": average_lagging(times, X, Y),
        "LAAL": average_lagging(times, X, max(len(times), Y)),
        "AP": average_proportion(times, X, Y),
        "DAL": differentiable_average_lagging(times, X),
        "ATD": average_token_delay(instance.delays, instance.elapsed if aware else None, *_TOKEN_LENGTHS[source]),
        "YAAL": yet_another_average_lagging(times, X, Y),
    }
