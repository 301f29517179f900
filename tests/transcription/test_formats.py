from __future__ import annotations

import csv
import html
import io
import json
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2s.decoding.alignment import Word
from s2s.errors import UserError
from s2s.transcription.formats import FORMATS, NEEDS_WORDS, formats_named
from s2s.transcription.subtitles import captions, one_line, segments_of
from s2s.transcription.transcript import Segment, Transcript

TALK = Transcript(
    text="Wait & see: a < b. Grüße!",
    score=-3.25,
    seconds=3725.5,
    scores={"ctc": -1.123456, "decoder": float("-inf")},
    language="en",
    segments=[
        Segment(
            0.5,
            2.0,
            "Wait & see: a < b.",
            words=[
                Word("Wait", 0.5, 0.7, 0.98765),
                Word("&", 0.7, 0.8, 0.5),
                Word("see:", 0.8, 1.1),
                Word("a", 1.1, 1.3, 1.0),
                Word("<", 1.3, 1.5, 0.25),
                Word("b.", 1.5, 2.0, 0.125),
            ],
            score=-2.0,
            confidence=0.875,
            language="en",
            no_speech_prob=0.01,
            compression_ratio=1.25,
        ),
        Segment(3723.0049, 3724.5, "Grüße!", words=[Word("Grüße!", 3723.0049, 3724.5, 0.75)], score=-1.25),
    ],
)
SILENCE = Transcript("", 0.0, 3.0, segments=[])

GOLDEN = {
    "txt": "Wait & see: a < b.\nGrüße!\n",
    "srt": "1\n00:00:00,500 --> 00:00:02,000\nWait & see: a < b.\n\n2\n01:02:03,005 --> 01:02:04,500\nGrüße!\n\n",
    "vtt": (
        "WEBVTT\n\n00:00:00.500 --> 00:00:02.000\nWait &amp; see: a &lt; b.\n\n01:02:03.005 --> 01:02:04.500\nGrüße!\n"
    ),
    "tsv": "start\tend\ttext\n500\t2000\tWait & see: a < b.\n3723005\t3724500\tGrüße!\n",
    "ctm": (
        "my_talk 1 0.500 0.200 Wait 0.9877\nmy_talk 1 0.700 0.100 & 0.5000\nmy_talk 1 0.800 0.300 see:\n"
        "my_talk 1 1.100 0.200 a 1.0000\nmy_talk 1 1.300 0.200 < 0.2500\nmy_talk 1 1.500 0.500 b. 0.1250\n"
        "my_talk 1 3723.005 1.495 Grüße! 0.7500\n"
    ),
    "stm": ("my_talk 1 my_talk 0.500 2.000 <O> Wait & see: a < b.\nmy_talk 1 my_talk 3723.005 3724.500 <O> Grüße!\n"),
}


@pytest.mark.parametrize("kind", GOLDEN)
def test_a_talk_in_each_format(kind: str) -> None:
    assert FORMATS[kind](TALK, "my talk") == GOLDEN[kind]


def test_json_holds_everything_with_its_type() -> None:
    content = json.loads(FORMATS["json"](TALK, "my talk"))
    assert {key: content[key] for key in ("text", "language", "seconds", "score", "scores", "alternatives")} == {
        "text": "Wait & see: a < b. Grüße!",
        "language": "en",
        "seconds": 3725.5,
        "score": -3.25,
        "scores": {"ctc": -1.1235, "decoder": None},
        "alternatives": [],
    }
    first, second = content["segments"]
    words = first.pop("words")
    assert words[0] == {"text": "Wait", "start": 0.5, "end": 0.7, "confidence": 0.9877}
    assert words[2]["confidence"] is None
    assert first == {
        "start": 0.5,
        "end": 2.0,
        "text": "Wait & see: a < b.",
        "score": -2.0,
        "confidence": 0.875,
        "language": "en",
        "temperature": 0.0,
        "no_speech_prob": 0.01,
        "compression_ratio": 1.25,
    }
    assert (second["start"], second["language"]) == (3723.0049, None)


def test_json_is_readable_as_it_stands() -> None:
    text = FORMATS["json"](TALK, "my talk")
    assert "Grüße" in text
    assert "NaN" not in text
    assert "Infinity" not in text


def test_json_has_the_alternatives() -> None:
    given = Transcript("a", -1.0, 1.0, alternatives=[Transcript("b", -2.0, 1.0, scores={"ctc": -2.0})])
    assert json.loads(FORMATS["json"](given, "x"))["alternatives"] == [
        {"text": "b", "score": -2.0, "scores": {"ctc": -2.0}}
    ]


def test_no_speech_is_a_valid_empty_file() -> None:
    empty = {kind: write(SILENCE, "x") for kind, write in FORMATS.items()}
    assert json.loads(empty.pop("json"))["segments"] == []
    assert empty == {"txt": "", "srt": "", "vtt": "WEBVTT\n", "tsv": "start\tend\ttext\n", "ctm": "", "stm": ""}


@pytest.mark.parametrize("kind", FORMATS)
def test_only_ctm_needs_words(kind: str) -> None:
    given = Transcript("so", 0.0, 1.0, segments=[Segment(0.0, 1.0, "so")])
    if kind in NEEDS_WORDS:
        with pytest.raises(UserError, match=r"^talk: .*--word-timestamps"):
            FORMATS[kind](given, "talk")
    else:
        assert "so" in FORMATS[kind](given, "talk")


@pytest.mark.parametrize("kind", FORMATS)
def test_a_transcript_without_segments_is_one(kind: str) -> None:
    words = [Word("so", 0.25, 0.5), Word("be", 0.5, 0.75)]
    whole = FORMATS[kind](Transcript("so be", -1.0, 2.0, words=words), "x")
    assert whole == FORMATS[kind](
        Transcript("so be", -1.0, 2.0, words=words, segments=[Segment(0.0, 2.0, "so be", words, score=-1.0)]), "x"
    )


def test_a_hundred_hours_keep_their_digits() -> None:
    given = Transcript("late", 0.0, 360_010.0, segments=[Segment(360_001.0, 360_002.0, "late")])
    assert "100:00:01,000 --> 100:00:02,000" in FORMATS["srt"](given, "x")
    assert "100:00:01.000 --> 100:00:02.000" in FORMATS["vtt"](given, "x")


def test_seconds_are_rounded_before_they_are_split() -> None:
    given = Transcript("a", 0.0, 70.0, segments=[Segment(59.9996, 61.9996, "a")])
    assert "00:01:00,000 --> 00:01:02,000" in FORMATS["srt"](given, "x")


def test_words_are_sorted_by_time_and_last_no_less_than_nothing() -> None:
    words = [Word("two", 1.0, 1.5), Word("one", 0.5, 0.4), Word("« three »", 2.0, 2.5)]
    given = Transcript("two one « three »", 0.0, 3.0, segments=[Segment(0.5, 2.5, "two one « three »", words)])
    assert FORMATS["ctm"](given, "x") == "x 1 0.500 0.000 one\nx 1 1.000 0.500 two\nx 1 2.000 0.500 «three»\n"


def test_segments_are_sorted_by_time_and_last_no_less_than_nothing() -> None:
    given = Transcript("", 0.0, 3.0, segments=[Segment(1.0, 2.0, "<two>"), Segment(0.5, 0.4, "one")])
    assert FORMATS["stm"](given, "x") == "x 1 x 0.500 0.500 <O> one\nx 1 x 1.000 2.000 <O> <two>\n"


def test_a_name_is_one_field_that_utf8_can_hold() -> None:
    assert FORMATS["stm"](TALK, "a b/c\td\udcff").split(" ")[:3] == ["a_b_c_d?", "1", "a_b_c_d?"]


def test_a_format_is_chosen_by_name() -> None:
    assert formats_named("vtt") == ["vtt"]
    assert formats_named("all") == list(FORMATS) == ["txt", "srt", "vtt", "tsv", "json", "ctm", "stm"]
    with pytest.raises(UserError, match=r"format 'jsn' is none of txt, .* and all\. Did you mean 'json'\?"):
        formats_named("jsn")


# What a reader of each format may rely on, for any text: parsers that accept nothing but the format.

awkward = st.text(
    st.one_of(st.sampled_from("ab <>&-\n\r\t\x0b\x85\u2028\0;{}1,"), st.characters(exclude_categories=["Cs"])),
    max_size=60,
) | st.sampled_from(
    ["a --> b", "--->", "\n\n", "1\n\n00:00:00,000 --> 00:00:01,000", "<v Bob>", "&amp;", "NOTE x", ";;"]
)


@st.composite
def transcripts(draw: st.DrawFn) -> Transcript:
    segments, now = [], 0.0
    for text in draw(st.lists(awkward, max_size=4)):
        start = now + draw(st.floats(0, 5000))
        now = start + draw(st.floats(0, 20))
        step = (now - start) / max(1, len(text.split()))
        words = [Word(word, start + i * step, start + (i + 1) * step) for i, word in enumerate(text.split())]
        segments.append(Segment(start, now, text, words))
    return Transcript("", 0.0, now, segments=segments)


def parse_clock(text: str, point: str) -> int:
    """Milliseconds."""
    found = re.fullmatch(rf"(\d{{2,}}):([0-5]\d):([0-5]\d){re.escape(point)}(\d{{3}})", text)
    assert found, text
    hours, minutes, seconds, milliseconds = map(int, found.groups())
    return ((hours * 60 + minutes) * 60 + seconds) * 1000 + milliseconds


def parse_cue(lines: list[str], point: str) -> tuple[int, int, list[str]]:
    start, end = lines[0].split(" --> ")
    assert len(lines) > 1
    assert not any("-->" in line or "\r" in line or not line.strip() for line in lines[1:])
    return parse_clock(start, point), parse_clock(end, point), lines[1:]


def parse_srt(text: str) -> list[tuple[int, int, list[str]]]:
    blocks = text.split("\n\n")
    assert blocks.pop() == ""
    cues = []
    for number, block in enumerate(blocks, start=1):
        first, *lines = block.split("\n")
        assert first == str(number)
        cues.append(parse_cue(lines, ","))
    return cues


def parse_vtt(text: str) -> list[tuple[int, int, list[str]]]:
    header, *blocks = text.removesuffix("\n").split("\n\n")
    assert header == "WEBVTT"
    cues = []
    for block in blocks:
        start, end, lines = parse_cue(block.split("\n"), ".")
        assert not any("<" in line or "\0" in line or re.search("&(?!(amp|lt|gt);)", line) for line in lines)
        cues.append((start, end, [html.unescape(line) for line in lines]))
    return cues


@pytest.mark.parametrize(("kind", "parse"), [("srt", parse_srt), ("vtt", parse_vtt)])
@given(talk=transcripts())
def test_subtitles_are_read_back_as_the_captions_they_are(kind: str, parse: object, talk: Transcript) -> None:
    cues = parse(FORMATS[kind](talk, "x"))  # type: ignore[operator]
    expected = captions(talk)
    assert [cue[:2] for cue in cues] == [(round(1000 * c.start), round(1000 * c.end)) for c in expected]
    shown = [[re.sub("-{2,}>", "->", line) if kind == "srt" else line for line in c.lines] for c in expected]
    assert [cue[2] for cue in cues] == shown
    assert all(start < end for start, end, _ in cues)
    assert all(one[1] <= other[0] for one, other in pairwise(cues))


@given(transcripts())
def test_tables_and_lines_are_read_back_as_the_segments(talk: Transcript) -> None:
    segments = segments_of(talk)
    texts = [one_line(segment.text) for segment in segments]
    rows = list(csv.reader(io.StringIO(FORMATS["tsv"](talk, "x"), newline="\n"), "excel-tab", quoting=csv.QUOTE_NONE))
    assert rows[0] == ["start", "end", "text"]
    assert [row[2] for row in rows[1:]] == texts
    assert [int(row[0]) for row in rows[1:]] == [round(1000 * segment.start) for segment in segments]
    assert FORMATS["txt"](talk, "x").splitlines() == texts


@given(transcripts())
def test_nist_files_have_their_fields_and_are_sorted(talk: Transcript) -> None:
    segments = segments_of(talk)
    last = 0.0
    words = []
    for line in FORMATS["ctm"](talk, "x y").splitlines():
        name, channel, start, duration, word = line.split(" ")
        assert (name, channel) == ("x_y", "1")
        assert float(start) >= last
        assert float(duration) >= 0
        last = float(start)
        words.append(word)
    spoken = [word.text.replace("\0", "") for segment in segments for word in segment.words or []]
    assert sorted(words) == sorted(filter(None, spoken))
    last = 0.0
    lines = FORMATS["stm"](talk, "x y").splitlines()
    assert len(lines) == len(segments)
    for line, segment in zip(lines, segments, strict=True):
        name, channel, speaker, start, end, label, *text = line.split(" ")
        assert (name, channel, speaker, label) == ("x_y", "1", "x_y", "<O>")
        assert last <= float(start) <= float(end)
        last = float(start)
        assert " ".join(text) == one_line(segment.text)
