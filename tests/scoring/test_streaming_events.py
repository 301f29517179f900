from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2s.errors import UserError
from s2s.scoring.json_lines import JsonLine
from s2s.scoring.streaming_events import StreamReport, read_stream_events, score_stream, stream_json, stream_table


def event(kind: str, text: str, heard: float, wall: float = 0.0, start: float = 0.5, **more: Any) -> dict[str, Any]:
    """An event of source a, of a segment whose words take 0.3 s each; without word times."""
    end = start + 0.3 * len(text.split())
    content = {"source": "a", "event": kind, "text": text, "start": start, "end": end, "heard": heard, "words": None}
    return content | {"wall": wall or heard} | more


def timed(kind: str, text: str, heard: float, wall: float = 0.0, start: float = 0.5, **more: Any) -> dict[str, Any]:
    """The same with word times."""
    words = [
        {"text": word, "start": start + 0.3 * i, "end": start + 0.3 * (i + 1)} for i, word in enumerate(text.split())
    ]
    return event(kind, text, heard, wall, start, words=words, **more)


def score(*contents: dict[str, Any]) -> StreamReport:
    lines = [JsonLine(f"log:{number}", content) for number, content in enumerate(contents, start=1)]
    return score_stream(read_stream_events(lines))


def test_latencies_are_those_of_an_example_by_hand() -> None:
    report = score(
        timed("partial", "", 0.64, 0.7),
        timed("partial", "the", 1.28, 1.4),
        timed("partial", "the can", 1.60, 1.7),
        timed("partial", "the cat", 1.92, 2.1),
        timed("final", "the cat sat", 2.56, 2.9),
        timed("partial", "yes", 5.0, 5.5, start=4.0),
        timed("final", "yes", 6.0, 6.5, start=4.0),
        event("end", "", 7.0, 7.2),
    )
    found = report.overall
    assert found.first_partial == [pytest.approx((0.78, 0.9)), pytest.approx((1.0, 1.5))]
    assert found.final == [pytest.approx((1.16, 1.5)), pytest.approx((1.7, 2.2))]
    # sat appears in the final; cat from 1.92 on, since 1.60 had can; the from 1.28 on.
    assert found.word == [pytest.approx(pair) for pair in ((1.16, 1.5), (0.82, 1.0), (0.48, 0.6), (0.7, 1.2))]
    assert (found.unstable, found.revisions, found.words, found.segments) == (1, 1, 4, 2)
    assert (found.unstable_word_ratio, found.unstable_segment_ratio) == (0.25, 0.5)
    assert report.too_fast == ()


def test_without_word_times_the_segments_are_taken() -> None:
    found = score(event("partial", "a", 1.0), event("final", "a b", 2.0), event("end", "", 2.5)).overall
    assert found.first_partial == [pytest.approx((0.5, 0.5))]
    assert found.final == [pytest.approx((0.9, 0.9))]
    assert found.word == []


def test_every_word_from_the_first_that_changes_is_unstable() -> None:
    partials = ("a b c d", "a x c d", "a x", "a x e")
    found = score(
        *(event("partial", text, 1.0) for text in partials), event("final", "a x e f", 2.0), event("end", "", 2)
    )
    assert (found.overall.unstable, found.overall.revisions, found.overall.words) == (3 + 2, 2, 4)


def test_what_was_shown_and_never_finalised_is_retracted() -> None:
    for closing in ([], [event("final", "", 3.0)]):
        found = score(event("partial", "a b", 1.0), *closing, event("end", "", 3.0)).overall
        assert (found.unstable, found.revisions, found.segments, found.words) == (2, 1, 1, 0)
        assert (found.unstable_word_ratio, found.unstable_segment_ratio, found.final) == (None, 1.0, [])


def test_segments_of_which_nothing_was_shown_do_not_count() -> None:
    empty = score(event("partial", "", 1.0), event("final", " ", 2.0), event("partial", "", 3.0), event("end", "", 4.0))
    assert (empty.overall.segments, empty.overall.first_partial) == (0, [])
    content = json.loads(json.dumps(stream_json(empty), allow_nan=False))
    assert [content[key] for key in ("first_partial", "final_CA", "word", "UPWR", "UPSR")] == [None] * 5
    assert "UPWR - [ 0 / 0 words ], UPSR - [ 0 / 0 segments ]" in stream_table(empty)


@st.composite
def sessions(draw: st.DrawFn) -> list[dict[str, Any]]:
    """One segment: partials of few different words, a final, every event later than the one before."""
    texts = draw(st.lists(st.lists(st.sampled_from("abc"), max_size=4), min_size=1, max_size=6))
    final = draw(st.lists(st.sampled_from("abc"), min_size=1, max_size=4))
    contents = [timed("partial", " ".join(text), 1.0 + i, 1.1 + 1.3 * i) for i, text in enumerate(texts)]
    return [*contents, timed("final", " ".join(final), 8.0, 9.5), event("end", "", 9.0, 10.0)]


@given(sessions())
@settings(max_examples=15)
def test_words_are_as_late_as_the_first_event_after_which_they_stay(contents: list[dict[str, Any]]) -> None:
    found = score(*contents).overall
    shown = [content["text"].split() for content in contents[:-1]]
    expected = []
    for i, word in enumerate(contents[-2]["words"]):
        since = [k for k in range(len(shown)) if all(later[: i + 1] == shown[-1][: i + 1] for later in shown[k:])]
        expected.append((contents[since[0]]["heard"] - word["end"], contents[since[0]]["wall"] - word["end"]))
    assert sorted(found.word) == [pytest.approx(pair) for pair in sorted(expected)]
    stay = [
        all(later[: i + 1] == words[: i + 1] for later in shown[k + 1 : k + 2])
        for k, words in enumerate(shown)
        for i in range(len(words))
    ]
    assert found.unstable == stay.count(False)


@given(sessions(), sessions(), st.randoms(use_true_random=False))
@settings(max_examples=10)
def test_interleaved_sources_are_scored_as_alone(one: list[dict], other: list[dict], order: Any) -> None:
    other = [content | {"source": "b"} for content in other]
    queues, mixed = [list(one), list(other)], []
    while any(queues):
        mixed.append(order.choice([queue for queue in queues if queue]).pop(0))
    report = score(*mixed)
    assert report.sources["a"] == score(*one).sources["a"]
    assert report.sources["b"] == score(*other).sources["b"]
    assert report.overall.words == report.sources["a"].words + report.sources["b"].words
    assert sorted(report.overall.word) == sorted(report.sources["a"].word + report.sources["b"].word)


def test_summaries_are_means_medians_and_percentiles() -> None:
    heard = [0.9, 1.3, 1.0, 2.9, 1.1]
    contents = [event("final", "a", 10.0 * i + value, start=10.0 * i) for i, value in enumerate(heard)]
    report = score(*contents, event("end", "", 60.0, 70.0), event("end", "", 5.0, 5.0, source="b"))
    content = stream_json(report)
    late = np.array(heard)
    expected = {"mean": late.mean(), "median": 1.1, "p90": np.quantile(late, 0.9), "count": 5}
    assert content["first_partial"] == content["first_partial_CA"] == pytest.approx(expected)
    assert content["sources"]["a"]["final"]["median"] == pytest.approx(1.1 - 0.3)
    assert content["sources"]["b"] == {
        **dict.fromkeys(("first_partial", "first_partial_CA", "final", "final_CA", "word", "word_CA")),
        **dict.fromkeys(("UPWR", "UPSR")),
        **dict.fromkeys(("unstable", "revisions", "words", "segments"), 0),
    }
    rows = stream_table(report).splitlines()
    assert rows[0] == "2 sources, 5 segments, 5 words; seconds"
    assert rows[1].split() == ["mean", "median", "p90", "count"]
    assert rows[2].split() == ["first", "partial", "1.440", "1.100", "2.260", "5"]
    assert rows[6].split() == ["word", "-", "-", "-", "0"]
    assert rows[8:] == ["UPWR 0.00% [ 0 / 5 words ], UPSR 0.000 [ 0 / 5 segments ]", report.signature]


def test_a_source_that_was_fed_faster_than_real_speed_is_told() -> None:
    assert score(event("final", "a", 2.0, 0.4), event("end", "", 4.0, 0.5)).too_fast == ("a",)
    assert score(event("final", "a", 2.0, 1.9), event("end", "", 4.0, 3.5)).too_fast == ()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"event": "finals"}, r"log:2: event 'finals'; expected partial, final or end\. Did you mean 'final'\?"),
        ({"source": None}, r"log:2: 'source' is null; expected a string"),
        ({"heard": 0.5}, r"log:2: 'heard' falls from 1 to 0\.5 since log:1"),
        ({"wall": 0.5}, r"log:2: 'wall' falls from 1 to 0\.5 since log:1"),
        ({"wall": "now"}, r"log:2: 'wall' is \"now\"; expected a finite number"),
        ({"end": 0.1}, r"log:2: 'end' \(0\.1\) lies before 'start' \(0\.5\)"),
        ({"text": 3}, r"log:2: 'text' is 3; expected a string"),
        ({"words": ["a"]}, r"log:2: 'words' is \[\"a\"\]; expected a list of"),
        ({"words": []}, r"log:2: 0 words, but the text is 'a b'"),
        ({"words": [{"text": "a", "start": 1}]}, r"log:2, word 1: no 'end'"),
        ({"words": [{"text": "a", "start": 1, "end": 0.5}]}, r"log:2, word 1: 'end' lies before 'start'"),
        ({"event": "end"}, r"log:3: source 'a' ended already at log:2"),
        ({"source": "b"}, r"log:2: source 'b' has no 'end' after this: the log is cut short"),
    ],
)
def test_mistakes_are_named_with_their_line(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        score(event("partial", "a", 1.0), event("final", "a b", 2.0) | changed, event("end", "", 3.0))


@pytest.mark.parametrize("key", ["source", "event", "text", "start", "end", "heard", "wall", "words"])
def test_every_key_is_named_where_missing(key: str) -> None:
    final = event("final", "a b", 2.0)
    del final[key]
    with pytest.raises(UserError, match=rf"log:2: no '{key}'"):
        score(event("partial", "a", 1.0), final, event("end", "", 3.0))
    if key in ("text", "start", "end", "words"):  # an end has none of them
        end = event("end", "", 3.0)
        del end[key]
        assert score(event("final", "a", 1.0), end).overall.segments == 1
