from __future__ import annotations

import gzip
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from s2s.decoding.arpa import read_arpa
from s2s.errors import UserError
from s2s.tokenizers.base import SPECIAL_PIECES
from s2s.tokenizers.character import CharacterTokenizer

TOKENIZER = CharacterTokenizer([*SPECIAL_PIECES, "▁", "a", "b", "ä"])
A, B = 5, 6
LINES = [
    "\\data\\",  # line 1
    "ngram 1=5",
    "ngram 2=3",
    "",
    "\\1-grams:",  # line 5
    "-2.5\t<unk>",
    "0\t<s>\t-0.25",
    "-1.5\t</s>",
    "-0.5\ta\t-0.125",
    "-0.75\tä\t0.5",
    "",
    "\\2-grams:",  # line 12
    "-0.5\t<s> a",
    "-1e-1\ta ä",
    "-inf\ta </s>",
    "",
    "\\end\\",  # line 17
]
TEXT = "\n".join(LINES) + "\n"


def replaced(number: int, *lines: str) -> str:
    """The file with other lines in place of a line."""
    return "\n".join([*LINES[: number - 1], *lines, *LINES[number:]]) + "\n"


def test_words_become_tokens_and_log10_natural_logs(tmp_path: Path) -> None:
    path = tmp_path / "lm.arpa"
    path.write_text(TEXT, encoding="utf-8")
    unigrams, bigrams = read_arpa(path, TOKENIZER)
    assert unigrams.tokens.tolist() == [[1], [2], [3], [A], [7]]
    assert bigrams.tokens.tolist() == [[2, A], [A, 7], [A, 3]]
    ln10 = math.log(10)
    assert unigrams.log_probs.tolist() == pytest.approx([-2.5 * ln10, 0.0, -1.5 * ln10, -0.5 * ln10, -0.75 * ln10])
    assert unigrams.backoffs.tolist() == pytest.approx([0.0, -0.25 * ln10, 0.0, -0.125 * ln10, 0.5 * ln10])
    assert bigrams.log_probs.tolist() == pytest.approx([-0.5 * ln10, -0.1 * ln10, -math.inf])
    assert bigrams.backoffs.tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    "write",
    [
        lambda: gzip.compress(TEXT.encode()),
        lambda: TEXT.replace("\n", "\r\n").encode(),
        lambda: ("\ufeff" + TEXT).encode(),
        lambda: TEXT.replace("\t", " ").replace("<unk>", "<UNK>").encode(),
        lambda: ("made by a trainer\n\n" + TEXT + "\nlast words\n").encode(),
        lambda: TEXT.replace("a ä", "a ä\t0").replace("\n\\2", "\\2").encode(),
        lambda: TEXT.rstrip("\n").encode(),
    ],
    ids=["gzip", "crlf", "mark", "spaces", "around", "zero", "no-last-feed"],
)
def test_the_same_model_in_other_guises(write: Callable[[], bytes], tmp_path: Path) -> None:
    plain, other = tmp_path / "plain", tmp_path / "other"
    plain.write_text(TEXT, encoding="utf-8")
    other.write_bytes(write())
    for ours, theirs in zip(read_arpa(plain, TOKENIZER), read_arpa(other, TOKENIZER), strict=True):
        assert ours.tokens.equal(theirs.tokens)
        assert ours.log_probs.equal(theirs.log_probs)
        assert ours.backoffs.equal(theirs.backoffs)


class OtherNames(CharacterTokenizer):
    """Calls its special pieces by names of its own."""

    def pieces(self, ids: Sequence[int]) -> list[str]:
        names = zip(ids, super().pieces(ids), strict=True)
        return [f"[{index}]" if index < len(SPECIAL_PIECES) else piece for index, piece in names]


def test_sentence_marks_and_unk_go_by_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "lm.arpa"
    path.write_text(TEXT, encoding="utf-8")
    other = OtherNames(TOKENIZER.pieces(range(TOKENIZER.vocab_size)))
    for ours, theirs in zip(read_arpa(path, TOKENIZER), read_arpa(path, other), strict=True):
        assert ours.tokens.equal(theirs.tokens)


def test_an_order_may_be_empty(tmp_path: Path) -> None:
    path = tmp_path / "lm.arpa"
    path.write_text("\n".join([*LINES[:2], "ngram 2=0", *LINES[3:12], "\\end\\"]), encoding="utf-8")
    assert [ngrams.tokens.shape for ngrams in read_arpa(path, TOKENIZER)] == [(5, 1), (0, 2)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"1: the file is empty"),
        ("\n \n", r"1: the file is empty"),
        ("once upon a time\n", r"1: no \\data\\ header"),
        ("\n".join(LINES[4:]), r"1: no \\data\\ header"),
        ("\n".join([LINES[0], *LINES[4:]]), r"1: the header has no counts"),
        (replaced(2, "ngrams 1=5"), r"2: 'ngrams 1=5', expected `ngram 1=COUNT`"),
        (replaced(3, "ngram 3=3"), r"3: 'ngram 3=3', expected `ngram 2=COUNT`"),
        (replaced(3, "ngram 2=many"), r"3: 'ngram 2=many', expected `ngram 2=COUNT`"),
        (replaced(3), r"11: '\\2-grams:', expected \\end\\: the header lists 1 orders"),
        (replaced(3, LINES[2], "ngram 3=1"), r"18: '\\end\\', expected \\3-grams:: the header lists 3 orders"),
        (replaced(12, "\\3-grams:"), r"12: '\\3-grams:', expected \\2-grams:"),
        (replaced(2, "ngram 1=6"), r"5: \\1-grams: has 5 n-grams, the header says 6"),
        (replaced(3, "ngram 2=2"), r"12: \\2-grams: has 3 n-grams, the header says 2"),
        (replaced(9, "-0.5"), r"9: 1 fields, expected a log10 probability, a word and perhaps a back-off weight"),
        (replaced(9, "-0.5\ta\t-0.1\t7"), r"9: 4 fields, expected a log10 probability, a word and perhaps"),
        (replaced(14, "-0.1\ta"), r"14: 2 fields, expected a log10 probability, 2 words and nothing more"),
        (replaced(9, "half\ta\t-0.125"), r"9: 'half', expected a log10 probability, 0 or less"),
        (replaced(9, "nan\ta\t-0.125"), r"9: 'nan', expected a log10 probability, 0 or less"),
        (replaced(9, "0.5\ta\t-0.125"), r"9: '0\.5', expected a log10 probability, 0 or less"),
        (replaced(9, "-0.5\ta\tb"), r"9: 'b', expected a back-off weight"),
        (replaced(9, "-0.5\ta\t-inf"), r"9: '-inf', expected a back-off weight"),
        (replaced(14, "-0.1\ta ä\t-0.5"), r"14: back-off weight -0\.5, expected none for n-grams of the highest order"),
        (replaced(14, "-0.1\ta b"), r"14: 'b' is not among the 1-grams"),
        (replaced(15, "-0.1\t<s> a"), r"15: this 2-gram is already on line 13"),
        (replaced(10, "-0.1\ta"), r"10: this 1-gram is already on line 9"),
        (replaced(10, "-0.1\t<UNK>"), r"10: this 1-gram is already on line 6"),
        (replaced(7, "-1\tb"), r"5: no <s> among the 1-grams"),
        (replaced(8, "-1\tb"), r"5: no </s> among the 1-grams"),
        (replaced(17), r"16: the file ends without \\end\\: it is cut short"),
        ("\n".join(LINES[:14])[:-2], r"14: the file ends without \\end\\: it is cut short"),
        ("\n".join(LINES[:7]), r"7: the file ends without \\end\\"),
        ("\n".join(LINES[:2]), r"2: the file ends without \\end\\"),
        (replaced(9, "-0.5\tah\t-0.1"), r"9: .* do not match: 1 of 5 words are not pieces of the tokenizer \(ah\);"),
    ],
)
def test_a_broken_file_is_an_error_that_names_the_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "lm.arpa"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"lm\.arpa:" + f"({message})"):
        read_arpa(path, TOKENIZER)


def test_a_model_of_words_is_refused_with_the_command_that_helps(tmp_path: Path) -> None:
    path = tmp_path / "lm.arpa"
    words = ["the", "a", "house", "is", "not", "on", "fire"]
    lines = ["-1 <s>", "-1 </s>", *(f"-1 {word}" for word in words)]
    path.write_text("\n".join(["\\data\\", f"ngram 1={len(lines)}", "\\1-grams:", *lines, "\\end\\"]))
    with pytest.raises(
        UserError, match=r"6: .*6 of 9 words .*\(the house is not on \.\.\.\).*`s2s tokenizer encode --pieces`"
    ):
        read_arpa(path, TOKENIZER)


def test_a_file_that_is_not_text_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "lm.arpa"
    with pytest.raises(UserError, match=r"lm\.arpa: cannot read it: No such file"):
        read_arpa(path, TOKENIZER)
    with pytest.raises(UserError, match=r"cannot read it: Is a directory"):
        read_arpa(tmp_path, TOKENIZER)
    path.write_bytes(TEXT.encode("latin-1"))
    with pytest.raises(UserError, match=r"lm\.arpa:10: not UTF-8"):
        read_arpa(path, TOKENIZER)
    path.write_bytes(bytes(range(256)))
    with pytest.raises(UserError, match=r"lm\.arpa:1: no \\data\\ header"):
        read_arpa(path, TOKENIZER)
    packed = gzip.compress(TEXT.encode())
    for broken in (packed[:-20], packed[:20] + b"\xff\xff" + packed[22:]):
        path.write_bytes(broken)
        with pytest.raises(UserError, match=r"lm\.arpa: cannot read it: "):
            read_arpa(path, TOKENIZER)
