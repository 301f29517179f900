"""WeNet's three rules, against counters that look at one frame after the other."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2s.decoding.hypothesis import Hypothesis
from s2s.decoding.streaming.endpoint import EndpointConfig, end_point
from s2s.decoding.streaming.partial import Partial
from s2s.errors import UserError

LIMITS = st.sampled_from([None, 0, 0.2, 0.42, 0.66, 0.9])
BLANK = 0


def partial_of(labels: list[int]) -> Partial:
    """What the best path (a label a frame) makes of its frames."""
    tokens: list[int] = []
    frames: list[tuple[int, int]] = []
    for t, label in enumerate(labels):
        if label != BLANK and t and labels[t - 1] == label:
            frames[-1] = (frames[-1][0], t + 1)
        elif label != BLANK:
            tokens.append(label)
            frames.append((t, t + 1))
    return Partial(Hypothesis(tokens, 0.0, frames=frames), len(tokens), len(labels))


def plain_rule(labels: list[int], config: EndpointConfig, hundredths: int) -> str | None:
    """The rule that holds after these frames of so many hundredths of a second, counted in whole numbers."""
    trailing, something = 0, False
    for label in labels:
        trailing = trailing + 1 if label == BLANK else 0
        something = something or label != BLANK
    for name, applies, frames in (
        ("start_silence", not something, trailing),
        ("end_silence", something, trailing),
        ("max_length", True, len(labels)),
    ):
        limit = getattr(config, name)
        if applies and limit and frames * hundredths >= round(100 * limit):
            return name
    return None


@given(
    labels=st.lists(st.sampled_from([BLANK, BLANK, BLANK, 1, 2]), max_size=40),
    limits=st.tuples(LIMITS, LIMITS, LIMITS),
    hundredths=st.sampled_from([2, 3, 6]),
)
@settings(max_examples=60)
def test_the_rules_are_those_of_counters_over_frames(
    labels: list[int], limits: tuple[float | None, ...], hundredths: int
) -> None:
    config = EndpointConfig(*limits)
    for size in range(len(labels) + 1):
        expected = plain_rule(labels[:size], config, hundredths)
        assert end_point(config, partial_of(labels[:size]), hundredths / 100) == expected


@pytest.mark.parametrize(
    ("labels", "rule"),
    [
        ([BLANK] * 124, None),
        ([BLANK] * 125, "start_silence"),
        ([1] + [BLANK] * 24, None),
        ([1] + [BLANK] * 25, "end_silence"),
        ([BLANK] * 100 + [1] + [BLANK] * 25, "end_silence"),
        ([1] + [BLANK] * 499, "end_silence"),
        ([1] * 499, None),
        ([1] * 500, "max_length"),
    ],
)
def test_the_defaults_are_five_seconds_one_second_and_twenty(labels: list[int], rule: str | None) -> None:
    assert end_point(EndpointConfig(), partial_of(labels), 0.04) == rule


def test_a_limit_is_reached_whatever_the_rounding() -> None:
    assert 11 * 0.06 < 0.66
    assert end_point(EndpointConfig(start_silence=0.66), partial_of([BLANK] * 11), 0.06) == "start_silence"
    assert end_point(EndpointConfig(start_silence=0.66), partial_of([BLANK] * 10), 0.06) is None


def test_silence_that_a_detector_tells_of_counts_where_it_is_longer() -> None:
    config = EndpointConfig(1.0, 0.5, 0)
    assert end_point(config, partial_of([1, BLANK]), 0.04, silence=0.45) is None
    assert end_point(config, partial_of([1, BLANK]), 0.04, silence=0.5) == "end_silence"
    assert end_point(config, partial_of([]), 0.04, silence=0.5) is None
    assert end_point(config, partial_of([BLANK]), 0.04, silence=1.0) == "start_silence"
    assert end_point(config, partial_of([1] + [BLANK] * 13), 0.04, silence=0.0) == "end_silence"


def test_of_tokens_whose_frames_are_not_known_a_detector_alone_tells_the_silence() -> None:
    config = EndpointConfig(1.0, 0.5, 8.0)
    partial = Partial(Hypothesis([1], 0.0), 0, 100)
    assert end_point(config, partial, 0.04) is None
    assert end_point(config, partial, 0.04, silence=0.6) == "end_silence"
    assert end_point(config, partial, 0.08) == "max_length"


@pytest.mark.parametrize("key", ["start_silence", "end_silence", "max_length"])
@pytest.mark.parametrize("value", [-1.0, math.nan])
def test_seconds_out_of_range_are_refused(key: str, value: float) -> None:
    with pytest.raises(UserError, match=rf"endpoint\.{key}={value}: expected a number of seconds, or 0 for never"):
        EndpointConfig(**{key: value})
