from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2s.errors import UserError
from s2s.scoring.transcripts import read_speakers, read_transcripts, write_transcripts

WORD = st.text(st.characters(exclude_categories=("Cs", "Cc", "Z"), exclude_characters="(){};"), min_size=1, max_size=6)


@settings(deadline=None, max_examples=60)
@given(
    transcripts=st.dictionaries(
        WORD.filter(lambda word: word[0] != "\ufeff"), st.lists(WORD, max_size=5).map(" ".join)
    ),
    name=st.sampled_from(["text", "hyp.txt", "hyp.trn"]),
)
def test_what_is_written_is_read_back_in_order(transcripts: dict[str, str], name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        write_transcripts(path, transcripts)
        assert list(read_transcripts(path).items()) == list(transcripts.items())


def test_kaldi_and_trn_say_the_same(tmp_path: Path) -> None:
    expected = {"a-1": "the cat (sat)", "b-2": "", "c-3": "on"}
    (tmp_path / "kaldi").write_text("a-1 the cat (sat)\nb-2\n\nc-3\ton \n")
    (tmp_path / "x.trn").write_text(";; comment\nthe cat (sat) (a-1)\n(b-2)\non\t(c-3)\n")
    (tmp_path / "no_extension").write_text("the cat (sat) (a-1)\r\n(b-2)\r\non (c-3)")
    for name in ("kaldi", "x.trn", "no_extension"):
        assert read_transcripts(tmp_path / name) == expected


def test_the_names_of_the_formats_decide(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("a hello (laughs)\n")
    assert read_transcripts(tmp_path / "text") == {"a": "hello (laughs)"}
    (tmp_path / "x.trn").write_text("a hello\n")
    with pytest.raises(UserError, match=r"x\.trn:1: expected `words\.\.\. \(id\)`"):
        read_transcripts(tmp_path / "x.trn")


def test_only_a_line_feed_ends_a_line(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("a one\u2028two\x0bthree\u00a0four\n", encoding="utf-8")
    assert read_transcripts(tmp_path / "text") == {"a": "one\u2028two\x0bthree\u00a0four"}


def test_a_byte_order_mark_is_not_part_of_an_id(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"\xef\xbb\xbfa one\n")
    assert read_transcripts(tmp_path / "text") == {"a": "one"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("text", b"a one\nb two\na three\n", r"text:3: utterance 'a' is already on line 1"),
        ("text", b"a one\n b two\n", r"text:2: the line starts with white space: expected `id words"),
        ("text", b"a one\nb \xff\n", r"text:2: not UTF-8"),
        ("x.trn", b"one (a)\n\ntwo (b\n", r"x\.trn:3: expected `words\.\.\. \(id\)`"),
        ("x.trn", b"one (a)\ntwo (a)\n", r"x\.trn:2: utterance 'a' is already on line 1"),
        ("x.trn", b"{ one / won } (a)\n", r"x\.trn:1: alternatives"),
    ],
)
def test_a_bad_line_is_named(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_transcripts(tmp_path / name)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere: cannot read it: No such file"):
        read_transcripts(tmp_path / "nowhere")
    with pytest.raises(UserError, match="cannot read it: Is a directory"):
        read_transcripts(tmp_path)


@pytest.mark.parametrize(
    ("name", "transcripts", "message"),
    [
        ("text", {"a b": "one"}, "utterance id 'a b' cannot be written"),
        ("text", {"": "one"}, "utterance id '' cannot be written"),
        ("x.trn", {"a(1)": "one"}, "without white space or parentheses"),
        ("text", {"a": "one\ntwo"}, "transcript of 'a' has a line break"),
        ("x.trn", {"a": ";; one"}, "a comment in trn"),
    ],
)
def test_what_a_format_cannot_hold_is_not_written(
    name: str, transcripts: dict[str, str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        write_transcripts(tmp_path / name, transcripts)
    assert not list(tmp_path.iterdir())


def test_speakers_are_read_by_utterance(tmp_path: Path) -> None:
    (tmp_path / "utt2spk").write_text("u1 anna\n\nu2\tbö \n")
    assert read_speakers(tmp_path / "utt2spk", ["u2", "u3"]) == {"u1": "anna", "u2": "bö"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("u1\n", r"utt2spk:1: expected `id speaker`, got 1 fields"),
        ("u1 a\nu2 b c\n", r"utt2spk:2: expected `id speaker`, got 3 fields"),
        ("u1 a\nu1 a\n", r"utt2spk:2: utterance 'u1' has a speaker already"),
        ("u7 a\n", r"utt2spk: none of the utterances that are scored is in it"),
    ],
)
def test_mistakes_in_speakers_name_the_line(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "utt2spk").write_text(content)
    with pytest.raises(UserError, match=message):
        read_speakers(tmp_path / "utt2spk", ["u1", "u2"])
