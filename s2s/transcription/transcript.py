"""What a transcription gives: words, segments and the transcript of a recording, with their times."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from torch import Tensor

from s2s.decoding.alignment import Word


@dataclass(frozen=True)
class Segment:
    """A stretch of speech with its text; times are seconds from the start of the recording.

    `score` is log P of its tokens; where the model gives them, `language` (ISO 639), `confidence` (the mean probability
    of its tokens), `temperature` (0: searched, above: sampled), `no_speech_prob` and the text's `compression_ratio`.
    """

    start: float
    end: float
    text: str
    words: list[Word] | None = None
    score: float = 0.0
    confidence: float | None = None
    language: str | None = None
    temperature: float = 0.0
    no_speech_prob: float | None = None
    compression_ratio: float | None = None


@dataclass(frozen=True)
class Transcript:
    """The text of one recording, its score (natural log) with its parts, and the recording's length in seconds.

    `segments` are its text in order, their times monotonic; `language` (ISO 639) is the spoken one where the model can
    tell. On request: `words` with their times, `attention` (U,T) of its tokens, and the rest of the n best as
    `alternatives`.
    """

    text: str
    score: float
    seconds: float
    scores: dict[str, float] = field(default_factory=dict)
    words: list[Word] | None = None
    attention: Tensor | None = None
    alternatives: list[Transcript] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)
    language: str | None = None


def merged(transcript: Transcript, more: Transcript) -> Transcript:
    """The transcript of a window with what else was heard in it, in the order of time."""
    segments = sorted([*transcript.segments, *more.segments], key=lambda segment: segment.start)
    words = (
        None if transcript.words is None else sorted([*transcript.words, *(more.words or [])], key=lambda w: w.start)
    )
    text = " ".join(segment.text for segment in segments)
    return replace(transcript, text=text, score=transcript.score + more.score, segments=segments, words=words)
