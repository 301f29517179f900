"""Wait-k against the plain account of it: one unit more for every piece more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2s.decoding.streaming.policy import Proposal
from s2s.decoding.streaming.wait_k import WaitK
from s2s.errors import UserError


def proposal(begins: list[bool], heard: int, words: int | None = None) -> Proposal:
    return Proposal(list(range(len(begins))), begins, 0, heard, words=words)


@given(k=st.integers(1, 6), pieces=st.integers(0, 12), size=st.integers(0, 10), piece=st.integers(1, 5))
def test_token_i_is_committed_to_when_k_plus_i_minus_1_pieces_are_known(
    k: int, pieces: int, size: int, piece: int
) -> None:
    expected = 0
    for i in range(1, size + 1):
        if k + i - 1 <= pieces:
            expected = i
    begins = [True] * size
    assert WaitK(k, unit="tokens").commit(proposal(begins, 99, pieces), None)[0] == expected
    frames = pieces * piece + piece - 1  # the last piece is not whole
    assert WaitK(k, piece, "tokens").commit(proposal(begins, frames), None)[0] == expected


@given(k=st.integers(1, 6), pieces=st.integers(0, 12), begins=st.lists(st.booleans(), max_size=12))
def test_word_i_is_committed_to_when_k_plus_i_minus_1_pieces_are_known(k: int, pieces: int, begins: list[bool]) -> None:
    words: list[list[int]] = []
    for i, is_new in enumerate(begins):
        if is_new or not words:
            words.append([])
        words[-1].append(i)
    expected = sum(len(word) for i, word in enumerate(words, start=1) if k + i - 1 <= pieces)
    assert WaitK(k).commit(proposal(begins, 99, pieces), None)[0] == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, r"policy.k=0: expected 1 or more"),
        ({"piece_frames": 0}, r"policy.piece_frames=0: expected 1 or more"),
        ({"unit": "word"}, r"policy.unit=word: expected words or tokens. Did you mean 'words'"),
    ],
)
def test_values_out_of_range_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        WaitK(**options)  # type: ignore[arg-type]


def test_speech_has_pieces_of_frames() -> None:
    with pytest.raises(UserError, match=r"policy.piece_frames: .* give it"):
        WaitK().commit(proposal([True], 9), None)
