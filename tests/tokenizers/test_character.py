from __future__ import annotations

import pickle
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2s.errors import UserError
from s2s.tokenizers import normalise
from s2s.tokenizers.character import CharacterTokenizer

LINES = st.lists(st.text(max_size=30), min_size=1, max_size=5).filter(lambda lines: any(map(normalise, lines)))


@settings(deadline=None, max_examples=60)
@given(lines=LINES, data=st.data())
def test_text_over_the_training_alphabet_comes_back(lines: list[str], data: st.DataObject) -> None:
    tokenizer = CharacterTokenizer.train(lines)
    alphabet = sorted(set().union(*map(normalise, lines)))
    text = "".join(data.draw(st.lists(st.sampled_from(alphabet), max_size=20)))
    ids = tokenizer.encode(text)
    assert tokenizer.unk_id not in ids
    assert tokenizer.decode(ids) == normalise(text)


@settings(deadline=None, max_examples=60)
@given(text=st.text())
def test_normalising_twice_is_normalising_once(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once
    assert unicodedata.is_normalized("NFC", once)


def test_ids_are_by_frequency_then_code_point_after_the_special_ones() -> None:
    tokenizer = CharacterTokenizer.train(["b a a c", "a"])
    assert tokenizer.pieces(range(tokenizer.vocab_size)) == ["<blank>", "<unk>", "<s>", "</s>", "a", "▁", "b", "c"]
    assert (tokenizer.blank_id, tokenizer.unk_id, tokenizer.bos_id, tokenizer.eos_id) == (0, 1, 2, 3)
    assert tokenizer.encode("a b") == [4, 5, 6]


def test_composed_and_decomposed_letters_have_the_same_ids() -> None:
    tokenizer = CharacterTokenizer.train(["caf\u00e9"])
    assert tokenizer.encode("cafe\u0301") == tokenizer.encode("caf\u00e9")
    assert tokenizer.unk_id not in tokenizer.encode("cafe\u0301")


def test_unknown_characters_are_unk_and_decode_to_nothing() -> None:
    tokenizer = CharacterTokenizer.train(["abc"])
    assert tokenizer.pieces(tokenizer.encode("axb")) == ["a", "<unk>", "b"]
    assert tokenizer.decode(tokenizer.encode("axb")) == "ab"


def test_no_text_is_no_ids() -> None:
    tokenizer = CharacterTokenizer.train(["abc"])
    assert tokenizer.encode("") == tokenizer.encode(" \t") == []
    assert tokenizer.decode([]) == ""
    assert tokenizer.decode([0, 1, 2, 3]) == ""


def test_vocab_size_keeps_the_most_frequent() -> None:
    tokenizer = CharacterTokenizer.train(["aaabbc"], vocab_size=6)
    assert tokenizer.pieces(range(6))[4:] == ["a", "b"]
    assert tokenizer.encode("abc") == [4, 5, tokenizer.unk_id]
    assert CharacterTokenizer.train(["aaabbc"], vocab_size=100).vocab_size == 7
    with pytest.raises(UserError, match="give 5 or more"):
        CharacterTokenizer.train(["abc"], vocab_size=4)


@pytest.mark.parametrize("lines", [[], [""], [" ", "\n"]])
def test_empty_training_text_is_an_error(lines: list[str]) -> None:
    with pytest.raises(UserError, match="no text to train a tokenizer on"):
        CharacterTokenizer.train(lines)


@pytest.mark.parametrize("index", [-1, 7, 1000])
def test_an_id_outside_the_vocabulary_is_an_error(index: int) -> None:
    tokenizer = CharacterTokenizer.train(["abc"])
    for use in (tokenizer.decode, tokenizer.pieces):
        with pytest.raises(ValueError, match=f"id {index} is not in the vocabulary: expected 0 to 6"):
            use([4, index])


def test_a_pickled_tokenizer_is_the_same() -> None:
    tokenizer = CharacterTokenizer.train(["abc d"])
    assert pickle.loads(pickle.dumps(tokenizer)).encode("d cab") == tokenizer.encode("d cab")
