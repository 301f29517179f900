"""Speech in a window that its text has no words for."""

from __future__ import annotations

from collections.abc import Sequence

from s2s.audio.windows import Window
from s2s.transcription.transcript import Segment

LEAST = 1.5  # seconds of speech without a word: nobody pauses that long within speech
REACH = 0.5  # seconds around a word that may be its own sound: a word's time ends early
EDGE = 0.2  # seconds of its surroundings that a gap is heard with


def gaps(window: Window, segments: Sequence[Segment], sampling_rate: int) -> list[Window]:
    """The stretches of speech in a window, each as a window of its own, in which no segment has words."""
    start, end = window.start, window.start + len(window.samples) / sampling_rate
    found = []
    for first, last in _without(window.speech, [(s.start - REACH, s.end + REACH) for s in segments]):
        if last - first < LEAST:
            continue
        first, last = max(start, first - EDGE), min(end, last + EDGE)
        samples = window.samples[round((first - start) * sampling_rate) : round((last - start) * sampling_rate)]
        found.append(Window(first, samples, [(first, last)]))
    return found


def _without(spans: Sequence[tuple[float, float]], taken: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """What is left of spans once others are taken out."""
    left = list(spans)
    for first, last in taken:
        left = [
            part
            for start, end in left
            for part in ((start, min(end, first)), (max(start, last), end))
            if part[1] > part[0]
        ]
    return left
