from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2s.errors import UserError
from s2s.scoring.instances import read_instances
from s2s.scoring.json_lines import JsonLine, read_json_lines
from s2s.scoring.latency import (
    MEASURES,
    average_lagging,
    average_proportion,
    average_token_delay,
    differentiable_average_lagging,
    latency_json,
    latency_table,
    score_latency,
    yet_another_average_lagging,
)

LOGS = Path(__file__).parent / "latency_logs"
UNITS = {"speech": "word", "text": "word", "char": "char"}


@st.composite
def instances(draw: st.DrawFn) -> dict[str, Any]:
    """A line of a log of speech: delays with ties, at the end of the source and beyond, and elapsed times."""
    length = draw(st.floats(200, 9000))
    delays = sorted(
        draw(st.lists(st.floats(0, 1.3 * length) | st.just(length) | st.just(640.0), min_size=1, max_size=9))
    )
    spent = sorted(draw(st.lists(st.floats(0, 900), min_size=len(delays), max_size=len(delays))))
    return {
        "prediction": " ".join("w" * len(delays)),
        "delays": delays,
        "elapsed": [delay + more for delay, more in zip(delays, spent, strict=True)],
        "reference": " ".join("r" * draw(st.integers(1, 12))),
        "source": ["a.wav"],
        "source_length": length,
    }


@st.composite
def logs(draw: st.DrawFn) -> list[JsonLine]:
    contents = draw(st.lists(instances(), min_size=1, max_size=3))
    return [JsonLine(f"log:{i + 1}", {"index": i, **content}) for i, content in enumerate(contents)]


def plain_lagging(times: list[float], X: float, Y: float, tau: int) -> float:
    """1/tau sum over i = 1 ... tau of d_i - (i - 1) |X| / |Y|."""
    return sum(times[i - 1] - (i - 1) * X / Y for i in range(1, tau + 1)) / tau


def plain_token_delay(delays: list[float], source_token: float, target_token: float, computing: list[float]) -> float:
    """ATD as the paper has it: chunks of input and output, their tokens' end times, and a(t) for each target token."""
    chunks: list[tuple[float, list[int]]] = []  # when it was written, the numbers of its target tokens
    for t, delay in enumerate(delays, start=1):
        if not chunks or chunks[-1][0] != delay:
            chunks.append((delay, []))
        chunks[-1][1].append(t)
    input_ends: list[list[float]] = []
    for c, (delay, _) in enumerate(chunks):
        start, ends = (chunks[c - 1][0] if c else 0.0), []
        left = delay - start
        while left > 1e-9:
            ends.append((ends[-1] if ends else start) + min(source_token, left))
            left -= min(source_token, left)
        input_ends.append(ends)
    total, free = 0.0, 0.0
    for c, (delay, tokens) in enumerate(chunks):
        heard = [0.0, *(end for ends in input_ends[: c + 1] for end in ends)]
        before = sum(len(ends) for ends in input_ends[:c])
        written = sum(len(earlier) for _, earlier in chunks[:c])
        for t in tokens:
            s = t - max(0, written - before)
            free = max(delay, free) + target_token + computing[t - 1]
            total += free - heard[min(s, len(heard) - 1)]
    return total / len(delays)


@pytest.mark.parametrize("name", UNITS)
def test_every_number_is_that_of_simuleval(name: str) -> None:
    expected = json.loads((LOGS / "scores.json").read_text())[name]
    report = score_latency(read_instances(read_json_lines(LOGS / f"{name}.log"), UNITS[name]))
    content = latency_json(report)
    assert {key: content.get(key) for key in expected} == pytest.approx(expected, rel=1e-12)
    assert ("AL_CA" in content) == ("AL_CA" in expected) == (name == "speech")


@given(logs(), st.booleans())
@settings(max_examples=15)
def test_every_number_is_that_of_the_installed_simuleval(log: list[JsonLine], aware: bool) -> None:
    pytest.importorskip("simuleval", reason="SimulEval is not installed; its numbers of three logs are tested above")
    from simuleval.evaluator.instance import LogInstance
    from simuleval.evaluator.scorers.latency_scorer import LATENCY_SCORERS_DICT

    content = latency_json(score_latency(read_instances(log)))
    theirs = {i: LogInstance(json.dumps(line.content)) for i, line in enumerate(log)}
    for name in ("AL", "LAAL", "AP", "DAL", "ATD"):
        ours = content.get(name + "_CA" * aware)
        if ours is not None:  # no time was spent on computing at all
            expected = LATENCY_SCORERS_DICT[name](computation_aware=aware)(theirs)
            assert ours == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(instances())
@settings(max_examples=15)
def test_lagging_is_the_equation(instance: dict[str, Any]) -> None:
    X, Y = instance["source_length"], len(instance["reference"].split())
    for times in (instance["delays"], instance["elapsed"]):
        late = [i for i, time in enumerate(times, start=1) if time >= X]
        tau = late[0] if late else len(times)
        if times[0] > X:
            assert average_lagging(times, X, Y) == times[0]
        else:
            assert average_lagging(times, X, Y) == pytest.approx(plain_lagging(times, X, Y, tau), rel=1e-9, abs=1e-9)
        before, longest = sum(time < X for time in times), max(Y, len(times))
        found = yet_another_average_lagging(times, X, Y)
        if before:
            assert found == pytest.approx(plain_lagging(times, X, longest, before), rel=1e-9, abs=1e-9)
        else:
            assert found is None


@given(instances())
@settings(max_examples=15)
def test_proportion_and_differentiable_lagging_are_the_equations(instance: dict[str, Any]) -> None:
    X, times = instance["source_length"], instance["delays"]
    assert average_proportion(times, X, 7) == pytest.approx(sum(time / X for time in times) / 7)
    U = len(times)
    # g'_i as the latest of all earlier times, each with the least time that writing has taken since.
    shifted = [max(times[k] + (i - k) * X / U for k in range(i + 1)) for i in range(U)]
    expected = sum(shifted[i] - i * X / U for i in range(U)) / U
    assert differentiable_average_lagging(times, X) == pytest.approx(expected, rel=1e-9, abs=1e-6)


@given(st.lists(st.integers(0, 12), min_size=1, max_size=9), st.booleans())
@settings(max_examples=15)
def test_token_delay_is_the_equation(drawn: list[int], speech: bool) -> None:
    step, source_token, target_token = (160.0, 300.0, 0.0) if speech else (1.0, 1.0, 1.0)
    delays = [step * count for count in sorted(drawn)]
    assert average_token_delay(delays, None, source_token, target_token) == pytest.approx(
        plain_token_delay(delays, source_token, target_token, [0.0] * len(delays))
    )
    computing = [10.0 + 7 * i for i in range(len(delays))]
    elapsed = [delay + sum(computing[: i + 1]) for i, delay in enumerate(delays)]
    assert average_token_delay(delays, elapsed, source_token, target_token) == pytest.approx(
        plain_token_delay(delays, source_token, target_token, computing)
    )


@given(st.integers(1, 6), st.integers(1, 12))
@settings(max_examples=10)
def test_wait_k_lags_by_k(k: int, length: int) -> None:
    delays = [min(length, k + i) for i in range(length)]
    expected = min(k, length)
    assert average_lagging(delays, length, length) == pytest.approx(expected)
    assert differentiable_average_lagging(delays, length) == pytest.approx(expected)
    assert yet_another_average_lagging(delays, length, length) == (pytest.approx(k) if k < length else None)


def test_what_is_written_after_the_source_tells_yaal_nothing() -> None:
    simultaneous = [500.0, 1000.0, 1700.0]
    scores = {yet_another_average_lagging([*simultaneous, *[2000.0 + 400 * more] * 4], 2000, 9) for more in range(3)}
    assert len(scores) == 1
    assert average_lagging([*simultaneous, 2000.0], 2000, 9) != average_lagging([*simultaneous, 2400.0], 2000, 9)


def test_writing_more_lowers_al_but_not_laal() -> None:
    little, much = [500.0, 1500.0], [500.0, 500.0, 500.0, 1500.0, 1500.0, 1500.0]
    assert average_lagging(much, 2000, 2) < 0 < average_lagging(little, 2000, 2) / 2
    assert average_lagging(much, 2000, 6) > 0


def line(index: int, delays: list[float], source_length: float = 2000, **more: Any) -> JsonLine:
    prediction = " ".join("w" * len(delays))
    content = {"index": index, "prediction": prediction, "delays": delays, "reference": "a b", "source": None}
    return JsonLine(f"log:{index + 1}", {**content, "source_length": source_length, **more})


def test_sentences_without_a_prediction_are_counted_and_left_out() -> None:
    report = score_latency(read_instances([line(0, []), line(1, [500.0, 1000.0]), line(2, [])]))
    assert (report.sentences, report.empty) == (3, 2)
    alone = score_latency(read_instances([line(1, [500.0, 1000.0])]))
    assert report.unaware == alone.unaware
    with pytest.raises(UserError, match=r"none of the 2 sentences has a prediction"):
        score_latency(read_instances([line(0, []), line(1, [])]))


def test_yaal_is_of_the_sentences_that_have_one() -> None:
    report = score_latency(read_instances([line(0, [2000.0, 2000.0]), line(1, [500.0, 1000.0])]))
    assert (report.unaware.scores["YAAL"], report.unaware.simultaneous) == (250.0, 1)
    assert report.unaware.scores["AL"] == (2000 + 250) / 2
    offline = score_latency(read_instances([line(0, [2000.0, 2000.0])]))
    content = json.loads(json.dumps(latency_json(offline), allow_nan=False))
    assert (content["YAAL"], content["YAAL_sentences"], content["AL"]) == (None, 0, 2000.0)
    assert "YAAL          -" in latency_table(offline)


def test_computing_counts_where_the_log_has_it() -> None:
    given = [line(0, [500.0, 1000.0], elapsed=[600.0, 1200.0])]
    content = latency_json(score_latency(read_instances(given)))
    assert [content[key] for key in ("AL", "AL_CA", "AP", "AP_CA")] == [250.0, 400.0, 0.375, 0.45]
    assert set(content) == {
        "signature",
        "source",
        "sentences",
        "empty",
        "YAAL_sentences",
        "YAAL_sentences_CA",
        *MEASURES,
        *(name + "_CA" for name in MEASURES),
    }


def test_the_table_has_a_row_for_every_measure() -> None:
    report = score_latency(read_instances(read_json_lines(LOGS / "speech.log")))
    rows = latency_table(report).splitlines()
    assert rows[0] == "10 sentences (2 without a prediction, not counted), milliseconds of speech"
    assert rows[1].split() == ["CU", "CA"]
    assert [row.split()[0] for row in rows[2:8]] == list(MEASURES)
    assert rows[3] == "LAAL   2840.573   2914.966"
    assert rows[8] == "YAAL is of the sentences with a word before the source ends: 7 CU, 7 CA"
    assert rows[9] == report.signature
    assert report.signature.startswith("definitions:SimulEval-1.1.4|YAAL:arXiv-2509.17349|source:speech|unit:word|")
