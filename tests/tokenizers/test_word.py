"""Words as pieces, on real pronunciations."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from s2s.decoding.alignment import word_times
from s2s.errors import UserError
from s2s.tokenizers import load_tokenizer, train_tokenizer


def test_phonemes_of_real_words_come_back(data_root: Path, tmp_path: Path) -> None:
    with gzip.open(data_root / "cmudict/cmudict.dict.gz", "rt", encoding="utf-8") as stream:
        phonemes = [
            line.split("#")[0].split(maxsplit=1)[1].strip() for line, _ in zip(stream, range(2000), strict=False)
        ]
    tokenizer = train_tokenizer("word", phonemes)
    tokenizer.save(tmp_path)
    again = load_tokenizer(tmp_path)
    assert again.kind == "word"
    assert 40 < again.vocab_size < 80
    for line in phonemes:
        ids = again.encode(f"  {line} ")
        assert len(ids) == len(line.split())
        assert again.decode(ids) == line


def test_a_piece_begins_a_word_and_what_is_not_known_is_unk() -> None:
    tokenizer = train_tokenizer("word", ["b a", "b"], vocab_size=5)
    assert tokenizer.pieces(tokenizer.encode("b a")) == ["▁b", "<unk>"]
    spans = [(0, 2), (3, 4)]
    assert [word.text for word in word_times(tokenizer.pieces([4, 4]), spans, 0.1)] == ["b", "b"]
    assert tokenizer.decode([4, 3, 4]) == "b b"


def test_a_list_that_is_none_is_named(tmp_path: Path) -> None:
    train_tokenizer("word", ["a b"]).save(tmp_path)
    (tmp_path / "tokens.txt").write_text("<blank>\n<unk>\n<s>\n</s>\na b\n")
    with pytest.raises(UserError, match=r"tokens\.txt: not a list of words, one a line: piece 4 must be one word"):
        load_tokenizer(tmp_path)
