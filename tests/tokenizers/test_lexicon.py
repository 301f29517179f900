"""Words become phonemes, and phonemes the words that they are of."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Cli
from hypothesis import given
from hypothesis import strategies as st

from s2s.errors import UserError
from s2s.tokenizers import load_tokenizer
from s2s.tokenizers.base import SPACE, SPECIAL_PIECES
from s2s.tokenizers.lexicon import LexiconTokenizer, read_lexicon

LEXICON = {"to": [("T", "UW"), ("T", "AH")], "two": [("T", "UW")], "read": [("R", "EH", "D"), ("R", "IY", "D")]}
LEXICON |= {"red": [("R", "EH", "D")], "tea": [("T", "IY")]}
LINES = ["two to 5x", "two tea red"]
TOKENIZER = LexiconTokenizer.train(LINES, LEXICON)


def test_words_are_phonemes_and_others_are_spelled() -> None:
    pieces = TOKENIZER.pieces(TOKENIZER.encode("two read 5x"))
    assert pieces == ["T", "UW", SPACE, "R", "EH", "D", SPACE, "=5", "=x"]
    assert TOKENIZER.pieces(range(5)) == [*SPECIAL_PIECES, SPACE]
    assert TOKENIZER.pieces(TOKENIZER.encode("zoo"))[0] == "<unk>"  # a letter that the text did not have


def test_phonemes_are_the_most_frequent_word_that_has_them() -> None:
    ids = {piece: i for i, piece in enumerate(TOKENIZER.pieces(range(TOKENIZER.vocab_size)))}

    def decoded(pieces: str) -> str:
        return TOKENIZER.decode([ids[piece] for piece in pieces.split()])

    assert decoded(f"T UW {SPACE} R EH D") == "two red"
    assert decoded("R IY D") == "read"  # a second pronunciation
    assert decoded(f"T R {SPACE} {SPACE} =5 =x </s>") == "T-R 5x"
    assert decoded("T =x") == "T-x"
    assert decoded("") == ""


@given(st.lists(st.sampled_from(["two", "red", "tea", "5x"]), max_size=6))
def test_what_is_encoded_is_decoded(words: list[str]) -> None:
    assert TOKENIZER.decode(TOKENIZER.encode("  ".join(words))) == " ".join(words)


def test_the_command_makes_one_that_loads(tmp_path: Path, s2s_cli: Cli) -> None:
    (tmp_path / "text").write_text("".join(f"id{i} {line}\n" for i, line in enumerate(LINES)))
    (tmp_path / "lexicon").write_text("to T UW\nto(2) T AH # weak\ntwo T UW\nread R EH D\nread R IY D\nred R EH D\n")
    train = ("tokenizer", "train", tmp_path / "text", "--kaldi", "--kind", "lexicon", "--out", tmp_path / "out")
    code, _, error = s2s_cli(*train, "--lexicon", tmp_path / "lexicon")
    assert code == 0, error
    again = load_tokenizer(tmp_path / "out")
    assert again.kind == "lexicon"
    assert again.decode(again.encode("two red")) == "two red"
    assert again.decode([again.encode("to")[0], again.encode("z")[0]]) == "T"  # and an unknown letter
    assert s2s_cli(*train)[2].startswith("s2s: error: a lexicon tokenizer needs its pronunciations")
    code, _, error = s2s_cli(*train[:-4], "--kind", "char", "--lexicon", tmp_path / "lexicon", "--out", tmp_path / "no")
    assert code == 1
    assert "--lexicon: is for --kind lexicon" in error
    (tmp_path / "out/lexicon.txt").unlink()
    with pytest.raises(UserError, match=r"lexicon\.txt: cannot read the pronunciations"):
        load_tokenizer(tmp_path / "out")


@pytest.mark.parametrize(
    ("content", "message"),
    [("to T UW\ntwo\n", r"lexicon:2: 'two'; expected a word and its phonemes"), ("\n", r"lexicon: no words")],
)
def test_a_faulty_lexicon_is_named(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "lexicon").write_text(content)
    with pytest.raises(UserError, match=message):
        read_lexicon(tmp_path / "lexicon")
    with pytest.raises(UserError, match="no text to train"):
        LexiconTokenizer.train([" "], LEXICON)
