from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2s.decoding.alignment import Word
from s2s.pictures.words import inches, places

TEXTS = st.sampled_from(["a", "two", "siebenundzwanzig", "für", "$x_1$", "ni"])


@given(
    spoken=st.lists(st.tuples(TEXTS, st.floats(0, 3), st.floats(0, 1)), max_size=12),
    start=st.sampled_from([0.0, 7.5]),
    width=st.sampled_from([8.0, 12.0]),
)
@settings(max_examples=15)
def test_no_word_covers_another_or_leaves_the_axis(
    spoken: list[tuple[str, float, float]], start: float, width: float
) -> None:
    words = [Word(text, start + begin, start + begin + length) for text, begin, length in spoken]
    found = places(words, start, start + 4.0, width)
    assert sorted(map(str, words)) == sorted(str(place.word) for place in found)
    half = {id(place): 0.5 * 4.0 / width * inches(place.word.text) for place in found}
    for place in found:
        assert start - 1e-9 <= place.middle - half[id(place)]
        assert place.middle + half[id(place)] <= start + 4.0 + 1e-9
    for one, other in combinations(found, 2):
        if one.line == other.line:
            assert abs(one.middle - other.middle) > half[id(one)] + half[id(other)]


def test_words_with_room_stand_in_one_line_over_the_middle_of_their_time() -> None:
    found = places([Word("one", 0.5, 1.0), Word("two", 2.0, 2.2)], 0.0, 4.0, 8.0)
    assert [(place.line, place.middle) for place in found] == [(0, 0.75), (0, pytest.approx(2.1))]


def test_a_line_is_used_again_as_soon_as_it_has_room() -> None:
    found = places([Word("seven", 1.0, 1.1), Word("seven", 1.1, 1.2), Word("seven", 3.0, 3.1)], 0.0, 4.0, 8.0)
    assert [place.line for place in found] == [0, 1, 0]
