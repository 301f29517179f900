"""A transcript in the formats that others read: plain text, subtitles, tables, JSON, NIST's."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

from s2s.decoding.alignment import Word
from s2s.errors import UserError, nearest
from s2s.transcription.subtitles import captions, one_line, segments_of
from s2s.transcription.transcript import Transcript


def txt(transcript: Transcript, name: str) -> str:
    """A line for each segment."""
    return "".join(f"{one_line(segment.text)}\n" for segment in segments_of(transcript))


def srt(transcript: Transcript, name: str) -> str:
    """SubRip: numbered captions. The format has no escapes: an arrow `-->` in the text becomes `->`."""
    return "".join(
        f"{number}\n{_clock(caption.start, ',')} --> {_clock(caption.end, ',')}\n"
        + "".join(re.sub("-{2,}>", "->", line) + "\n" for line in caption.lines)
        + "\n"
        for number, caption in enumerate(captions(transcript), start=1)
    )


def vtt(transcript: Transcript, name: str) -> str:
    """WebVTT (W3C): captions in which `&`, `<` and `>` are character references."""
    escapes = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
    return "WEBVTT\n" + "".join(
        f"\n{_clock(caption.start, '.')} --> {_clock(caption.end, '.')}\n"
        + "".join(f"{line.translate(escapes)}\n" for line in caption.lines)
        for caption in captions(transcript)
    )


def tsv(transcript: Transcript, name: str) -> str:
    """A table of the segments as Whisper's command writes it: start and end in whole milliseconds, text."""
    return "start\tend\ttext\n" + "".join(
        f"{round(1000 * segment.start)}\t{round(1000 * segment.end)}\t{one_line(segment.text)}\n"
        for segment in segments_of(transcript)
    )


def to_json(transcript: Transcript, name: str) -> str:
    """All there is but the attention: text, language, seconds, scores, segments with their words, alternatives.

    Times are seconds; numbers have four decimals; what is not known is null, numbers that are not finite too.
    """
    content = {
        "text": transcript.text,
        "language": transcript.language,
        "seconds": transcript.seconds,
        "score": transcript.score,
        "scores": transcript.scores,
        "segments": [asdict(segment) for segment in segments_of(transcript)],
        "alternatives": [
            {"text": other.text, "score": other.score, "scores": other.scores} for other in transcript.alternatives
        ],
    }
    return json.dumps(_rounded(content), ensure_ascii=False, indent=2) + "\n"


def ctm(transcript: Transcript, name: str) -> str:
    """The words of a transcript as `ctm_of` writes them. Raises UserError where a segment has none."""
    words: list[Word] = []
    for segment in segments_of(transcript):
        if segment.words is None:
            raise UserError(
                f"{name}: ctm needs the time of every word; add --word-timestamps, or choose another format"
            )
        words += segment.words
    return ctm_of(words, name)


def ctm_of(words: Iterable[Word], name: str) -> str:
    """NIST CTM, sorted by time: name, channel 1, start and duration in seconds, word, its confidence where known.

    White space in a word is left out, in the name it is an underscore, as are slashes.
    """
    lines = []
    for word in words:
        start, end = round(1000 * word.start), round(1000 * max(word.start, word.end))
        confidence = "" if word.confidence is None else f" {word.confidence:.4f}"
        if text := re.sub(r"[\s\0]", "", word.text):
            lines.append((start, f"{(end - start) / 1000:.3f} {text}{confidence}"))
    return "".join(
        f"{_field(name)} 1 {start / 1000:.3f} {rest}\n" for start, rest in sorted(lines, key=lambda line: line[0])
    )


def stm(transcript: Transcript, name: str) -> str:
    """NIST STM, sorted by time: name, channel 1, speaker (the name), start and end in seconds, label <O>, text.

    Without a label sclite would take a text that starts with `<` for one. Names as in `ctm`.
    """
    return "".join(
        f"{_field(name)} 1 {_field(name)} {segment.start:.3f} {max(segment.start, segment.end):.3f} <O> "
        f"{one_line(segment.text)}\n"
        for segment in sorted(segments_of(transcript), key=lambda segment: segment.start)
    )


FORMATS: dict[str, Callable[[Transcript, str], str]] = {
    "txt": txt,
    "srt": srt,
    "vtt": vtt,
    "tsv": tsv,
    "json": to_json,
    "ctm": ctm,
    "stm": stm,
}
"""What a transcript and the name of its recording are in each format; the key is the suffix of its files."""

NEEDS_WORDS = frozenset({"ctm"})
"""The formats that cannot be written without words."""


def formats_named(choice: str) -> list[str]:
    """The formats that `choice` names: one of `FORMATS`, or `all`; UserError for another."""
    if choice == "all":
        return list(FORMATS)
    if choice not in FORMATS:
        raise UserError(
            f"format '{choice}' is none of {', '.join(FORMATS)} and all.{nearest(choice, [*FORMATS, 'all'])}"
        )
    return [choice]


def _clock(seconds: float, point: str) -> str:
    """Hours, minutes, seconds and milliseconds: 01:02:03.004 with the point given."""
    minutes, milliseconds = divmod(round(1000 * seconds), 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{milliseconds // 1000:02}{point}{milliseconds % 1000:03}"


def _field(name: str) -> str:
    """A name without white space and slashes, of what UTF-8 can hold: file names may have other bytes."""
    return re.sub(r"[\s/\\]", "_", name).encode("utf-8", "replace").decode()


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 4) if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value
