from __future__ import annotations

import unicodedata
from itertools import accumulate, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2s.decoding.alignment import Word
from s2s.errors import UserError
from s2s.transcription.subtitles import Caption, captions, one_line, segments_of
from s2s.transcription.transcript import Segment, Transcript


def spoken(text: str, start: float = 0.0, step: float = 0.5, spaces: bool = True) -> Segment:
    """A segment whose words (without spaces: characters) start every `step` seconds, the last tenth of it a gap."""
    units = text.split() if spaces else list(text)
    words = [Word(unit, start + i * step, start + (i + 0.9) * step) for i, unit in enumerate(units)]
    return Segment(start, words[-1].end, text, words)


def transcript(*segments: Segment, seconds: float = 3600.0) -> Transcript:
    return Transcript(" ".join(segment.text for segment in segments), 0.0, seconds, segments=list(segments))


def texts(found: list[Caption]) -> list[str]:
    return [" ".join(caption.lines) for caption in found]


def columns(text: str) -> int:
    return sum(1 + (unicodedata.east_asian_width(char) in "WF") for char in text)


words_of_text = st.lists(
    st.sampled_from(
        ["a", "I", "don't", "Mr.", "yes.", "no,", "«", "!", "3.5", "tremendously", "x" * 30, "日本語", "です。"]
    ),
    min_size=1,
    max_size=30,
)


@st.composite
def transcripts(draw: st.DrawFn) -> Transcript:
    """Segments with and without words, their times in disorder too: words without length, steps back, long pauses."""
    segments, now = [], 0.0
    for units in draw(st.lists(words_of_text, min_size=1, max_size=5)):
        words, start = [], now
        for unit in units:
            begin = max(0.0, now + draw(st.sampled_from([0.0, 0.0, 0.1, 2.0, -0.2])))
            now = begin + draw(st.sampled_from([0.0, 0.1, 0.5, 9.0]))
            words.append(Word(unit, begin, now))
        segments.append(Segment(start, now, " ".join(units), words if draw(st.booleans()) else None))
    return transcript(*segments, seconds=now)


limits = st.fixed_dictionaries(
    {"max_chars": st.integers(4, 50), "max_lines": st.integers(1, 3), "max_seconds": st.sampled_from([1.0, 7.0])}
)


@settings(max_examples=100)
@given(transcripts(), limits)
def test_every_character_is_shown_once_and_in_order(given: Transcript, limit: dict[str, float]) -> None:
    shown = "".join("".join(caption.lines) for caption in captions(given, **limit))  # type: ignore[arg-type]
    assert shown.replace(" ", "") == given.text.replace(" ", "")


@settings(max_examples=100)
@given(transcripts(), limits)
def test_captions_are_apart_and_never_too_wide_or_too_high(given: Transcript, limit: dict[str, float]) -> None:
    found = captions(given, **limit)  # type: ignore[arg-type]
    assert all(round(caption.end * 1000) > round(caption.start * 1000) >= 0 for caption in found)
    assert all(one.end <= other.start for one, other in pairwise(found))
    assert all(1 <= len(caption.lines) <= limit["max_lines"] for caption in found)
    assert all(0 < columns(line) <= limit["max_chars"] for caption in found for line in caption.lines)
    assert all(line == line.strip() for caption in found for line in caption.lines)


@settings(max_examples=30)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), max_size=5), st.booleans())
def test_any_text_can_be_shown(units: list[str], spaces: bool) -> None:
    words = [Word(unit, 0.3 * i, 0.3 * i + 0.2) for i, unit in enumerate(units)]
    given = transcript(Segment(0.0, 2.0, (" " if spaces else "").join(units), words))
    shown = "".join("".join(caption.lines) for caption in captions(given))
    assert shown.replace(" ", "") == one_line(given.text).replace(" ", "")


@pytest.mark.parametrize("longest", [1.0, 3.0, 7.0])
def test_captions_of_words_keep_to_the_longest_time(longest: float) -> None:
    found = captions(transcript(spoken(" ".join(["word"] * 60))), max_seconds=longest)
    assert all(caption.end - caption.start <= longest for caption in found)
    ends = [0.45 + 0.5 * (total - 1) for total in accumulate(len(text.split()) for text in texts(found))]
    assert [caption.end for caption in found] == pytest.approx(ends, abs=0.06)  # no word is cut off: 0.05 is the gap


def test_times_are_those_of_the_words() -> None:
    assert captions(transcript(spoken("so it goes", start=1.25))) == [Caption(1.25, 2.7, ["so it goes"])]


def test_a_sentence_and_a_pause_end_a_caption() -> None:
    given = transcript(spoken("It was late. We went home and"), spoken("slept.", start=5.0))
    assert texts(captions(given)) == ["It was late.", "We went home and", "slept."]


def test_a_sentence_goes_on_over_segments() -> None:
    given = transcript(spoken("we went to the"), spoken("shop.", start=2.0))
    assert captions(given) == [Caption(0.0, 2.45, ["we went to the shop."])]


def test_a_short_sentence_stays_with_the_next() -> None:
    given = transcript(spoken("No. He said it twice. Then he left."))
    assert texts(captions(given)) == ["No. He said it twice.", "Then he left."]


@pytest.mark.parametrize(
    "text",
    [
        "then came Mr. Smith",
        "then J. Smith came",
        "am heiligen 3. Oktober",
        "well, U.S. forces came",
        "I thought... well, so",
    ],
)
def test_a_full_stop_within_a_sentence_ends_no_caption(text: str) -> None:
    assert texts(captions(transcript(spoken(text)))) == [text]


def test_a_quote_after_the_full_stop_belongs_to_the_sentence() -> None:
    assert texts(captions(transcript(spoken("“He has gone.” She nodded twice.")))) == [
        "“He has gone.”",
        "She nodded twice.",
    ]


def test_lines_are_even_and_end_after_punctuation_where_that_is_near() -> None:
    even = spoken("one two three four five six seven eight nine ten", step=0.2)
    assert captions(transcript(even))[0].lines == ["one two three four five", "six seven eight nine ten"]
    comma = spoken("one two three four five six, seven eight nine ten", step=0.2)
    assert captions(transcript(comma))[0].lines == ["one two three four five six,", "seven eight nine ten"]


def test_a_long_sentence_becomes_the_fewest_captions_of_even_length() -> None:
    found = captions(transcript(spoken(" ".join(["words"] * 20), step=0.2)))  # 119 columns: two captions
    assert [len(text.split()) for text in texts(found)] == [10, 10]


@pytest.mark.parametrize("width", range(8, 24))
def test_scripts_without_spaces_break_between_characters_but_not_beside_brackets_and_marks(width: int) -> None:
    text = "今日は、ちょっと良い天気ですね。明日は「テクノロジー」の展示会（２時）に行きます。"
    found = captions(transcript(spoken(text, step=0.1, spaces=False)), max_chars=width)
    lines = [line for caption in found for line in caption.lines]
    assert "".join(lines) == text
    assert max(map(columns, lines)) <= width
    assert not any(line[0] in "、。」）ーょっ" or line[-1] in "「（" for line in lines)
    assert any(caption.lines[-1].endswith("ですね。") for caption in found)


@pytest.mark.parametrize("width", range(4, 12))
def test_marks_and_vowels_stay_with_their_consonant(width: int) -> None:
    text = "ที่นี่มีน้ำใจและเวลา" * 3
    lines = [
        line for caption in captions(transcript(Segment(0.0, 5.0, text)), max_chars=width) for line in caption.lines
    ]
    assert "".join(lines) == text
    assert not any(unicodedata.category(line[0]) == "Mn" or line[0] in "ำาะ" or line[-1] in "ใเแ" for line in lines)


@pytest.mark.parametrize("width", range(13, 30))
def test_spaced_punctuation_does_not_start_a_line(width: int) -> None:
    text = "Tu viens là ? Mais oui : « Bonjour » ! Et toi ? Non ; je dis « Au revoir » et je pars !"
    lines = [line for caption in captions(transcript(spoken(text)), max_chars=width) for line in caption.lines]
    assert " ".join(lines) == text
    assert not any(line[0] in "?!:;»" or line[-1] == "«" for line in lines)


def test_without_words_a_segment_is_one_caption() -> None:
    given = transcript(Segment(0.0, 9.0, "One. Two three."), Segment(9.0, 12.0, "Four."))
    assert captions(given) == [Caption(0.0, 9.0, ["One. Two three."]), Caption(9.0, 12.0, ["Four."])]


def test_without_words_a_long_text_shares_out_the_time_by_characters() -> None:
    found = captions(transcript(Segment(10.0, 30.0, "a" * 50 + "b" * 50)), max_chars=50, max_lines=1)
    assert found == [Caption(10.0, 20.0, ["a" * 50]), Caption(20.0, 30.0, ["b" * 50])]


def test_segments_with_and_without_words_stand_side_by_side() -> None:
    given = transcript(spoken("one two"), Segment(1.0, 3.0, "three"), Segment(3.0, 4.0, "four", words=[]))
    assert texts(captions(given)) == ["one two", "three", "four"]


def test_a_short_caption_stays_on_but_not_into_the_next_nor_past_the_end() -> None:
    words = [Word("Yes.", 1.0, 1.1), Word("No.", 3.0, 3.2), Word("Stop.", 4.1, 4.2)]
    given = transcript(Segment(1.0, 4.2, "Yes. No. Stop.", words), seconds=4.5)
    assert [(caption.start, caption.end) for caption in captions(given, max_pause=0.5)] == [
        (1.0, 2.0),
        (3.0, 4.0),
        (4.1, 4.5),
    ]
    assert captions(given, max_pause=0.5, min_seconds=1.5)[1].end == 4.1


def test_a_word_that_lasts_too_long_leaves_the_screen() -> None:
    given = transcript(Segment(0.0, 20.0, "Hm", [Word("Hm", 0.0, 20.0)]))
    assert captions(given) == [Caption(0.0, 7.0, ["Hm"])]


def test_a_word_wider_than_a_line_is_cut() -> None:
    found = captions(transcript(spoken("x" * 25)), max_chars=10, max_lines=3)
    assert found == [Caption(0.0, 1.0, ["x" * 10, "x" * 10, "x" * 5])]


def test_words_that_are_not_in_the_text_are_shown_as_they_are() -> None:
    given = transcript(Segment(0.0, 1.0, "Hello there", [Word("hello", 0.0, 0.5), Word("there", 0.5, 1.0)]))
    assert captions(given) == [Caption(0.0, 1.0, ["hello there"])]


def test_text_without_segments_is_one() -> None:
    words = [Word("so", 0.5, 1.0), Word("be", 1.0, 1.5), Word("it", 1.5, 2.0)]
    given = Transcript("so be it", -1.0, 3.0, words=words)
    assert [segment.text for segment in segments_of(given)] == ["so be it"]
    assert captions(given) == [Caption(0.5, 2.0, ["so be it"])]


@pytest.mark.parametrize("given", [Transcript("", 0.0, 5.0), transcript(Segment(0.0, 5.0, " \n"))])
def test_no_speech_has_no_captions(given: Transcript) -> None:
    assert captions(given) == []


@pytest.mark.parametrize("limit", [{"max_chars": 1}, {"max_lines": 0}, {"max_seconds": 0.0}, {"max_pause": 0.0}])
def test_limits_no_caption_can_keep_are_refused(limit: dict[str, float]) -> None:
    with pytest.raises(UserError, match="expected 2 characters, 1 line or more"):
        captions(transcript(spoken("one")), **limit)  # type: ignore[arg-type]
