"""Captions of a transcript: what is shown at once, in which lines, from when to when."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

from s2s.decoding.alignment import Word
from s2s.errors import UserError
from s2s.transcription.transcript import Segment, Transcript

_SENTENCE_ENDS, _CLAUSE_ENDS, _CLOSERS = tuple(".!?。！？｡؟۔।॥។"), tuple(",;:…、，；：،؛–—"), "\"'”’»)]）」』】"
_CLOSING = set(".,;:!?…%»")  # no line starts with one that stands alone, as in French
# Three dots, an initial, a number such as a German ordinal's, a title: their full stop does not end a sentence.
_NO_END = re.compile(
    r"(.*\.\.|(.*[\W_])?([^\W\d_]|\d{1,2}|mr|mrs|ms|dr|prof|st|mme|hr|fr|sr|sra|jr|vs))\.", re.IGNORECASE
)
# Scripts written without spaces between words: Han and kana, full-width forms, Thai and Lao, Burmese, Khmer.
_SPACELESS = re.compile(
    "[\u3000-\u30ff\u31f0-\u9fff\uf900-\ufaff\uff01-\uff9f\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff𠀀-𲎯]"
)
# Within them no line starts with one of these, with punctuation or a mark, none ends with one of those.
_NOT_FIRST = set("ぁぃぅぇぉっゃゅょゎァィゥェォッャュョヮヵヶ〜～%％ะาำๅະາຳ")
_NOT_LAST = set("เแโใไເແໂໃໄ")
_ZERO_WIDTH_JOINER = "\u200d"


@dataclass(frozen=True)
class Caption:
    """What is shown from `start` to `end`, in seconds, whole milliseconds; `lines` from the top."""

    start: float
    end: float
    lines: list[str]


class _Piece(NamedTuple):
    """Text that stays in one line, its seconds, its columns, and whether a space comes before it.

    `stop`: how well a caption or a line ends with it, 2 with a sentence, 1 with another punctuation mark, else 0.
    """

    text: str
    start: float
    end: float
    width: int
    space: bool
    stop: int


def captions(
    transcript: Transcript,
    max_chars: int = 42,
    max_lines: int = 2,
    max_seconds: float = 7.0,
    min_seconds: float = 1.0,
    max_pause: float = 0.8,
) -> list[Caption]:
    """The captions of a transcript in order; none is empty, none overlaps the next.

    Words with times, of any segment, are cut where they pause for `max_pause` seconds and where a sentence ends (one
    shorter than `min_seconds` stays with the next), then into the fewest captions of at most `max_lines` lines of
    `max_chars` columns and `max_seconds`, as even as can be, after punctuation rather than elsewhere. A segment without
    words is one caption, or as many as its text needs, its time shared out by characters. Lines break at spaces, in
    scripts without them between characters; a full-width character takes two columns; a longer word is cut. A caption
    is shown for `min_seconds` where that does not reach into the next or past the recording.

    Raises UserError for limits that no caption can keep.
    """
    if max_chars < 2 or max_lines < 1 or min(max_seconds, max_pause) <= 0:
        raise UserError(
            f"captions of {max_lines} lines of {max_chars} characters, {max_seconds} s long, cut at pauses of "
            f"{max_pause} s: expected 2 characters, 1 line or more, and times above 0"
        )
    groups: list[list[_Piece]] = []
    spans: list[tuple[float, float]] = []
    for pieces, is_timed in _stretches(transcript, max_chars):
        longest = max_seconds if is_timed else float("inf")
        for run in _runs(pieces, max_pause, min_seconds) if is_timed else [pieces]:
            for group in _grouped(run, _caption_ends, max_chars, max_lines, longest):
                groups.append(group)
                spans.append((group[0].start, min(group[-1].end, group[0].start + longest)))
    return [
        Caption(start, end, [_text(line) for line in _grouped(group, _line_ends, max_chars)])
        for (start, end), group in zip(_apart(spans, transcript.seconds, min_seconds), groups, strict=True)
    ]


def segments_of(transcript: Transcript) -> list[Segment]:
    """The segments that have text; of a transcript with text and no segments, all of it as one."""
    if not transcript.segments and one_line(transcript.text):
        return [Segment(0.0, transcript.seconds, transcript.text, transcript.words, transcript.score)]
    return [segment for segment in transcript.segments if one_line(segment.text)]


def one_line(text: str) -> str:
    """The text with every run of white space, line breaks included, as one space; no-break spaces stay."""
    return re.sub(r"[^\S\u00a0\u202f]+", " ", text.replace("\0", "")).strip()


def _stretches(transcript: Transcript, max_chars: int) -> Iterator[tuple[list[_Piece], bool]]:
    """The pieces of neighbouring segments with words, and of every other segment; whether their times are of words."""
    timed: list[_Piece] = []
    for segment in segments_of(transcript):
        text, times = _character_times(segment)
        pieces = _pieces(text, times, max_chars)
        if _words(segment):
            if timed:
                pieces[0] = pieces[0]._replace(space=bool(_joint(timed[-1].text, text)))
            timed += pieces
            continue
        if timed:
            yield timed, True
        timed = []
        yield pieces, False
    if timed:
        yield timed, True


def _character_times(segment: Segment) -> tuple[str, list[tuple[float, float]]]:
    """The text of a segment, and the time of each character: its share of its word's, without words the segment's."""
    text, words = one_line(segment.text), _words(segment)
    if not words:
        return text, _shares(segment.start, segment.end, len(text))
    if not _in_order(text, words):
        text = ""
        for word in words:
            text += _joint(text, word.text) + word.text
    times: list[tuple[float, float]] = []
    now = words[0].start
    for word in words:
        times += [(now, now)] * (text.find(word.text, len(times)) - len(times))
        times += _shares(word.start, word.end, len(word.text))
        now = word.end
    return text, times + [(now, now)] * (len(text) - len(times))


def _words(segment: Segment) -> list[Word]:
    words = [replace(word, text=one_line(word.text)) for word in segment.words or []]
    return [word for word in words if word.text]


def _in_order(text: str, words: list[Word]) -> bool:
    """Whether the text holds the words one after the other."""
    at = 0
    for word in words:
        found = text.find(word.text, at)
        if found < 0:
            return False
        at = found + len(word.text)
    return True


def _shares(start: float, end: float, count: int) -> list[tuple[float, float]]:
    step = (end - start) / count
    return [(start + i * step, start + (i + 1) * step) for i in range(count)]


def _pieces(text: str, times: list[tuple[float, float]], max_chars: int) -> list[_Piece]:
    """The text cut wherever a line may break, and where a piece would be wider than a line."""
    pieces: list[_Piece] = []
    first = 0
    for i in range(1, len(text) + 1):
        may_end = i == len(text) or " " in text[i - 1 : i + 1] or _may_break(text[i - 1], text[i])
        if not may_end and _width(text[first : i + 1]) <= max_chars:
            continue
        piece, space = text[first:i], first > 0 and text[first - 1] == " "
        start, end = times[first][0], times[i - 1][1]
        if pieces and space and (set(piece) <= _CLOSING or pieces[-1].text == "«"):
            joined = f"{pieces[-1].text} {piece}"
            if _width(joined) <= max_chars:
                last = pieces.pop()
                piece, start, space = joined, last.start, last.space
        if piece != " ":
            pieces.append(_Piece(piece, start, end, _width(piece), space, _stop(piece)))
        first = i
    return pieces


def _may_break(left: str, right: str) -> bool:
    """Whether a line may end between two characters without a space."""
    if not (_SPACELESS.match(left) or _SPACELESS.match(right)) or _ZERO_WIDTH_JOINER in (left, right):
        return False
    after, before = unicodedata.category(left), unicodedata.category(right)
    return not (
        left in _NOT_LAST
        or right in _NOT_FIRST
        or after in ("Ps", "Pi")
        or before in ("Pe", "Pf", "Po", "Lm", "Mn", "Mc", "Me")
    )


def _joint(left: str, right: str) -> str:
    """What stands between two texts: a space, nothing between scripts without them."""
    if not left or not right or _SPACELESS.match(left[-1]) or _SPACELESS.match(right[0]):
        return ""
    return " "


def _width(text: str) -> int:
    """Columns."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    return len(text) + wide - sum(unicodedata.category(char) in ("Mn", "Me", "Cf") for char in text)


def _runs(pieces: list[_Piece], max_pause: float, min_seconds: float) -> list[list[_Piece]]:
    """Pieces that may share a caption: cut at pauses, and at the ends of sentences that are long enough."""
    runs = [pieces[:1]]
    for last, piece in pairwise(pieces):
        sentence = last.stop == 2 and last.end - runs[-1][0].start >= min_seconds
        if sentence or piece.start - last.end >= max_pause:
            runs.append([])
        runs[-1].append(piece)
    return runs


def _stop(text: str) -> int:
    text = text.rstrip(_CLOSERS)
    if text.endswith(_SENTENCE_ENDS):
        return 1 if _NO_END.fullmatch(text) else 2
    return int(text.endswith(_CLAUSE_ENDS))


_Ends = Iterator[tuple[int, float]]


def _caption_ends(pieces: list[_Piece], first: int, max_chars: int, max_lines: int, max_seconds: float) -> _Ends:
    """Where a caption that starts with piece `first` may end, and what each end costs: see `_grouped`."""
    lines, width, total = 1, 0, 0
    for i in range(first, len(pieces)):
        piece = pieces[i]
        width += piece.space * (i > first) + piece.width
        if width > max_chars:
            lines, width = lines + 1, piece.width
        if i > first and (lines > max_lines or piece.end - pieces[first].start > max_seconds):
            return
        total += piece.width
        yield i + 1, total**2 - (0.0, 0.1, 0.25)[piece.stop] * (max_chars * max_lines) ** 2


def _line_ends(pieces: list[_Piece], first: int, max_chars: int) -> _Ends:
    """Where a line that starts with piece `first` may end, and what each end costs: see `_grouped`."""
    width = 0
    for i in range(first, len(pieces)):
        width += pieces[i].space * (i > first) + pieces[i].width
        if i > first and width > max_chars:
            return
        yield i + 1, width**2 - (0.0, 0.1, 0.1)[pieces[i].stop] * max_chars**2


def _grouped(pieces: list[_Piece], ends: Callable[..., _Ends], *limits: float) -> list[list[_Piece]]:
    """The pieces in the fewest groups, and among such groupings the one of least cost, by dynamic programming.

    `ends(pieces, i, *limits)` gives where a group that starts with piece i may end, and what that costs: the square of
    its width, the sum of which is least where all are equal, less something where the text has a break there.
    """
    best: list[tuple[int, float, int]] = [(0, 0.0, 0)] + [(len(pieces) + 1, 0.0, 0)] * len(pieces)
    for i in range(len(pieces)):
        for end, cost in ends(pieces, i, *limits):
            candidate = (best[i][0] + 1, best[i][1] + cost, i)
            if candidate < best[end]:
                best[end] = candidate
    groups, end = [], len(pieces)
    while end:
        start = best[end][2]
        groups.append(pieces[start:end])
        end = start
    return groups[::-1]


def _text(pieces: list[_Piece]) -> str:
    return "".join(" " * (piece.space * (i > 0)) + piece.text for i, piece in enumerate(pieces))


def _apart(spans: list[tuple[float, float]], seconds: float, min_seconds: float) -> list[tuple[float, float]]:
    """Times in whole milliseconds, each at least one long and ending before the next starts."""
    starts: list[int] = []
    for start, _ in spans:
        starts.append(max(round(1000 * start), starts[-1] + 1 if starts else 0))
    times = []
    for k, (start, (_, end)) in enumerate(zip(starts, spans, strict=True)):
        own, wanted = round(1000 * end), start + round(1000 * min_seconds)
        latest = starts[k + 1] if k + 1 < len(starts) else max(own, round(1000 * seconds), start + 1)
        times.append((start / 1000, min(max(own, wanted), latest) / 1000))
    return times
