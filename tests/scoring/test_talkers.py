"""The words of speakers who talk at once: whose order does not matter, and nothing else."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import pytest
from conftest import Cli
from hypothesis import given
from hypothesis import strategies as st

from s2s.errors import UserError
from s2s.scoring.talkers import by_talker
from s2s.scoring.word_errors import score_words

words = st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=4).map(" ".join)


@given(st.lists(words, min_size=1, max_size=3), st.lists(words, min_size=1, max_size=3))
def test_the_errors_are_the_fewest_of_all_orders(said: list[str], heard: list[str]) -> None:
    said = ["a", *said[1:]]  # a rate needs a word
    references, hypotheses = by_talker({"u": " | ".join(said)}, {"u": " | ".join(heard)}, "|")
    assert references.keys() == hypotheses.keys()
    found = score_words(references, hypotheses, "word").counts.errors
    size = max(len(said), len(heard))
    said, heard = said + [""] * (size - len(said)), heard + [""] * (size - len(heard))

    def errors(order: tuple[int, ...]) -> int:
        pairs = {str(i): said[i] for i in range(size)}, {str(i): heard[j] for i, j in enumerate(order)}
        return score_words(*pairs, "word").counts.errors

    assert found == min(map(errors, permutations(range(size))))


def test_order_does_not_matter_and_a_speaker_who_is_not_there_does() -> None:
    reference = {"u": "one two ‖ three"}
    for hypothesis, expected in (("three ‖ one two", 0), ("one two", 1), ("one ‖ two ‖ three", 1 + 1)):
        assert score_words(*by_talker(reference, {"u": hypothesis}, "‖"), "word").counts.errors == expected


def test_what_has_no_hypothesis_is_deleted_and_what_has_no_reference_is_extra() -> None:
    report = score_words(*by_talker({"u": "one ‖ two three", "w": "five"}, {"v": "four", "w": "five"}, "‖"), "word")
    assert report.counts.deletions == 3
    assert len(report.missing) == 2
    assert list(report.extra) == ["v"]


def test_too_many_speakers_are_refused_in_a_reference_and_joined_in_a_hypothesis() -> None:
    with pytest.raises(UserError, match=r"utterance 'u': 7 speakers in the reference, expected at most 6"):
        by_talker({"u": " | ".join("abcdefg")}, {"u": "a"}, "|")
    assert len(by_talker({"u": "a"}, {"u": " | ".join("abcdefgh")}, "|")[0]) == 6


def test_the_command_scores_them(tmp_path: Path, s2s_cli: Cli) -> None:
    (tmp_path / "text").write_text("a one two ‖ three\nb Four\n")
    (tmp_path / "hyp").write_text("a three ‖ one two\nb four\n")
    code, told, _ = s2s_cli("score", "wer", tmp_path / "text", tmp_path / "hyp", "--change", "‖", "--lower-case")
    assert code == 0
    assert "0.00" in told
    assert "%WER 0.00 [ 0 / 4" in told
