"""Transcripts in the shapes of OpenAI's answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import Any

from s2s.decoding.alignment import Word
from s2s.server.models import ServedModel
from s2s.tokenizers.whisper import LANGUAGES
from s2s.transcription.formats import srt, vtt
from s2s.transcription.subtitles import one_line, segments_of
from s2s.transcription.transcript import Segment, Transcript

TEXTS: dict[str, tuple[str, Callable[[Transcript], str]]] = {  # media type and content
    "text": ("text/plain", lambda transcript: text_of(transcript) + "\n"),
    "srt": ("application/x-subrip", lambda transcript: srt(transcript, "")),
    "vtt": ("text/vtt", lambda transcript: vtt(transcript, "")),
}
FORMATS = ("json", "verbose_json", *TEXTS)
GRANULARITIES = ("segment", "word")


def text_of(transcript: Transcript) -> str:
    """The text, in one line."""
    return one_line(transcript.text)


def usage(transcript: Transcript) -> dict[str, Any]:
    """What was heard."""
    return {"type": "duration", "seconds": round(transcript.seconds, 3)}


def as_json(transcript: Transcript) -> dict[str, Any]:
    """The text alone."""
    return {"text": text_of(transcript), "usage": usage(transcript)}


def as_verbose(transcript: Transcript, model: ServedModel, task: str, granularities: Collection[str]) -> dict[str, Any]:
    """Everything that OpenAI's `verbose_json` has; where there is nothing to say, a number is 0 and a text empty."""
    language = "en" if task == "translate" else transcript.language or model.language
    segments = segments_of(transcript)
    content: dict[str, Any] = {
        "task": task,
        "language": LANGUAGES[language].lower() if language in LANGUAGES else language or "",
        "duration": round(transcript.seconds, 3),
        "text": text_of(transcript),
        "usage": usage(transcript),
    }
    if "segment" in granularities:
        content["segments"] = [segment_json(i, segment, model) for i, segment in enumerate(segments)]
    if "word" in granularities:
        content["words"] = [word_json(word) for segment in segments for word in segment.words or []]
    return content


def segment_json(number: int, segment: Segment, model: ServedModel) -> dict[str, Any]:
    """A segment with what Whisper knows of it."""
    text = one_line(segment.text)
    confidence = 1.0 if segment.confidence is None else segment.confidence
    return {
        "id": number,
        "seek": 0,
        "start": round(segment.start, 3),
        "end": round(segment.end, 3),
        "text": text,
        "tokens": list(model.tokenizer.encode(text)),
        "temperature": segment.temperature,
        "avg_logprob": round(math.log(max(confidence, 1e-10)), 4),
        "compression_ratio": round(segment.compression_ratio or 0.0, 4),
        "no_speech_prob": round(segment.no_speech_prob or 0.0, 4),
    }


def word_json(word: Word) -> dict[str, Any]:
    """A word with its times, and its confidence where that is known."""
    content: dict[str, Any] = {"word": word.text, "start": round(word.start, 3), "end": round(word.end, 3)}
    if word.confidence is not None:
        content["confidence"] = round(word.confidence, 4)
    return content
