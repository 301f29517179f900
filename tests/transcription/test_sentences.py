from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2s.decoding.alignment import Word
from s2s.transcription.sentences import LONGEST, PAUSE, sentences, shared_out, shifted


def spoken(texts: list[str], pauses: dict[int, float] | None = None, each: float = 0.5) -> list[Word]:
    """Words of half a second, one after another, with a pause after some."""
    words, time = [], 0.0
    for i, text in enumerate(texts):
        words.append(Word(text, time, time + each))
        time += each + (pauses or {}).get(i, 0.0)
    return words


def found(text: str, words: list[Word]) -> list[str]:
    return [sentence for sentence, _ in sentences(text, words)]


@pytest.mark.parametrize(
    "expected",
    [
        ["One two.", "Three?", "Four!"],
        ["It was 3.5 metres.", "Good."],
        ['"Go."', "He went.", "(He did!)", "«Oui !»", "Fin"],
        ["Was ist das?", "…und dann…", "Schluss"],
    ],
)
def test_a_sentence_ends_with_its_punctuation_inside_quotes_or_not(expected: list[str]) -> None:
    text = " ".join(expected)
    assert found(text, spoken(text.split())) == expected


def test_languages_without_spaces_have_sentences_too() -> None:
    assert found("你好。再见！好", spoken(["你", "好。", "再", "见！", "好"])) == ["你好。", "再见！", "好"]


def test_a_pause_ends_a_sentence() -> None:
    text = "one two three"
    assert found(text, spoken(text.split(), {0: PAUSE + 0.1})) == ["one", "two three"]
    assert found(text, spoken(text.split(), {0: PAUSE - 0.1})) == [text]


def test_what_is_too_long_ends_before_the_next_pause() -> None:
    texts = [f"w{i}" for i in range(50)]
    last = int(LONGEST / 0.5)  # the first word after which it is too long
    result = list(sentences(" ".join(texts), spoken(texts, {5: 0.1, last + 3: 0.1, last + 4: 0.1})))
    assert [len(words) for _, words in result] == [last + 4, 50 - last - 4]
    assert found(" ".join(texts), spoken(texts)) == [" ".join(texts)]  # no pause at all


def test_nothing_has_no_sentence() -> None:
    assert found("", []) == []


TEXTS = st.lists(st.text("ab.?1,\"'é", min_size=1, max_size=4), min_size=1, max_size=12)


@given(
    texts=TEXTS,
    separator=st.sampled_from([" ", ""]),
    pauses=st.dictionaries(st.integers(0, 11), st.floats(0, 3), max_size=4),
    each=st.floats(0.1, 5),
)
def test_sentences_are_the_whole_text_and_all_words_in_order(
    texts: list[str], separator: str, pauses: dict[int, float], each: float
) -> None:
    text, words = separator.join(texts), spoken(texts, pauses, each)
    result = list(sentences(f" {text} ", words))
    assert separator.join(sentence for sentence, _ in result) == text
    assert [word for _, own in result for word in own] == words
    for sentence, own in result:
        assert sentence == separator.join(word.text for word in own)


@given(texts=TEXTS, cuts=st.lists(st.integers(0, 12), max_size=4))
def test_words_go_to_the_text_that_has_them(texts: list[str], cuts: list[int]) -> None:
    bounds = [0, *sorted(min(cut, len(texts)) for cut in cuts), len(texts)]
    parts = [texts[a:b] for a, b in pairwise(bounds)]
    shares = shared_out(["".join(f" {text}" for text in part) for part in parts], spoken(texts))
    assert [[word.text for word in share] for share in shares] == parts


def test_a_shifted_word_is_said_later() -> None:
    assert shifted(Word("a", 0.5, 1.25, 0.75), 30.0) == Word("a", 30.5, 31.25, 0.75)
    # The end of one window and the start of the next are one time.
    assert shifted(Word("a", 0.0, 0.3), 0.1).end == shifted(Word("b", 0.0, 0.1), 0.4).start
