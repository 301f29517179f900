from __future__ import annotations

from pathlib import Path

import pytest

from s2s.errors import UserError
from s2s.scoring.parallel_text import read_parallel


def write(folder: Path, **files: str | bytes) -> list[Path]:
    for name, content in files.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return [folder / name for name in files]


def test_a_line_is_a_segment_and_empty_ones_are_kept_and_counted(tmp_path: Path) -> None:
    ref, hyp = write(tmp_path, ref="\ufeffein Hund\n\nzwei \u2028 Katzen \r\n", hyp="a dog\n \n\n")
    text = read_parallel([ref], [hyp])
    assert text.ids == ("1", "2", "3")
    assert text.references[0].texts == ("ein Hund", "", "zwei \u2028 Katzen")
    assert text.systems[0].texts == ("a dog", "", "")
    assert (text.references[0].empty, text.systems[0].empty) == (1, 2)
    assert text.reference_texts == [["ein Hund", "", "zwei \u2028 Katzen"]]


def test_a_file_may_lack_its_last_line_feed(tmp_path: Path) -> None:
    ref, hyp = write(tmp_path, ref="a\nb", hyp="a\nb\n")
    assert read_parallel([ref], [hyp]).systems[0].texts == ("a", "b")


def test_with_ids_the_first_reference_says_which_segments_there_are(tmp_path: Path) -> None:
    ref, other, hyp = write(
        tmp_path,
        ref="u2 zwei Katzen\nu1 ein Hund\nu3\n",
        other="u1 a\nu2 b\nu3 c\nu4 d\n",
        hyp="ein Hund (u1)\nx (u9)\n",
    )
    text = read_parallel([ref, other], [hyp], keyed=True)
    assert text.ids == ("u2", "u1", "u3")
    assert [lines.texts for lines in text.references] == [("zwei Katzen", "ein Hund", ""), ("b", "a", "c")]
    assert text.systems[0].texts == ("", "ein Hund", "")
    assert (text.systems[0].missing, text.systems[0].extra) == (("u2", "u3"), ("u9",))


@pytest.mark.parametrize(
    ("ref", "hyp", "keyed", "message"),
    [
        (b"a\nb\n", b"a\n", False, r"ref has 2 lines, .*hyp has 1: expected as many"),
        (b"a\n", b"a\n\n", False, r"ref has 1 lines, .*hyp has 2"),
        (b"a\nb\n", b"a\n\xff\n", False, r"hyp:2: not UTF-8"),
        (b"a\nb\xc3\n", b"a\nb\n", False, r"ref:2: not UTF-8"),
        (b"", b"", False, r"ref: no text in it"),
        (b"\n \n", b"a\nb\n", False, r"ref: no text in it"),
        (b"u1\nu2\n", b"u1 a\n", True, r"ref: no text in it"),
        (
            b"u1 a\n",
            b"v1 a\n",
            True,
            r"hyp: no utterance id of .*ref is in it: that one starts with 'u1', this one .* 'v1'",
        ),
        (b"u1 a\n", b"", True, r"hyp: no utterance id .* this one is empty"),
        (b"u1 a\nu1 b\n", b"u1 b\n", True, r"ref:2: utterance 'u1' is already on line 1"),
    ],
)
def test_mistakes_name_the_file(ref: bytes, hyp: bytes, keyed: bool, message: str, tmp_path: Path) -> None:
    paths = write(tmp_path, ref=ref, hyp=hyp)
    with pytest.raises(UserError, match=message):
        read_parallel(paths[:1], paths[1:], keyed)


def test_every_reference_must_have_every_utterance(tmp_path: Path) -> None:
    ref, other, hyp = write(tmp_path, ref="u1 a\nu2 b\n", other="u1 a\n", hyp="u1 a\nu2 b\n")
    with pytest.raises(UserError, match=r"other: 1 of the 2 utterances of .*ref are not in it, 'u2' for one"):
        read_parallel([ref, other], [hyp], keyed=True)
