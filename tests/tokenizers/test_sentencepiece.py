from __future__ import annotations

import pickle
import re
from pathlib import Path

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from s2s.errors import UserError
from s2s.tokenizers import normalise
from s2s.tokenizers.sentencepiece import KINDS, SentencePieceTokenizer

POEM = [
    "Tiger, tiger, burning bright",
    "In the forests of the night,",
    "What immortal hand or eye",
    "Could frame thy fearful symmetry?",
    "In what distant deeps or skies",
    "Burnt the fire of thine eyes?",
]
TEXT = st.text(st.characters(exclude_characters="\0\u2585", exclude_categories=("Cs",)), max_size=30)


def largest(kind: str, lines: list[str]) -> int:
    with pytest.raises(UserError, match="too large") as caught:
        SentencePieceTokenizer.train(kind, lines, 100_000)
    return int(re.findall(r"\d+", str(caught.value))[-1])


@settings(deadline=None, max_examples=25)
@given(
    kind=st.sampled_from(KINDS),
    lines=st.lists(TEXT, min_size=1, max_size=5).filter(lambda lines: any(map(normalise, lines))),
    data=st.data(),
)
def test_text_over_the_training_alphabet_comes_back(kind: str, lines: list[str], data: st.DataObject) -> None:
    tokenizer = SentencePieceTokenizer.train(kind, lines, largest(kind, lines))
    alphabet = sorted(set().union(*map(normalise, lines)))
    text = "".join(data.draw(st.lists(st.sampled_from(alphabet), max_size=20)))
    ids = tokenizer.encode(text)
    assert tokenizer.unk_id not in ids
    assert tokenizer.decode(ids) == normalise(text)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_text_gives_the_same_model(kind: str, tmp_path: Path) -> None:
    for name in ("one", "two"):
        SentencePieceTokenizer.train(kind, POEM, 45).save(tmp_path / name)
    assert (tmp_path / "one/tokenizer.model").read_bytes() == (tmp_path / "two/tokenizer.model").read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_the_saved_model_is_one_sentencepiece_reads(kind: str, tmp_path: Path) -> None:
    tokenizer = SentencePieceTokenizer.train(kind, POEM, 45)
    tokenizer.save(tmp_path)
    processor = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "tokenizer.model"))
    assert [processor.encode(line) for line in POEM] == [tokenizer.encode(line) for line in POEM]
    assert [processor.pad_id(), processor.unk_id(), processor.bos_id(), processor.eos_id()] == [0, 1, 2, 3]
    assert tokenizer.pieces(range(4)) == ["<blank>", "<unk>", "<s>", "</s>"]
    assert tokenizer.vocab_size == 45


@pytest.mark.parametrize("kind", KINDS)
def test_the_sizes_that_the_errors_name_work(kind: str) -> None:
    high = largest(kind, POEM)
    with pytest.raises(UserError, match="too small for the characters of this text") as caught:
        SentencePieceTokenizer.train(kind, POEM, 10)
    low = int(re.search(r"smallest that works is (\d+)", str(caught.value))[1])  # type: ignore[index]
    assert low < high
    for size in (low, high):
        assert SentencePieceTokenizer.train(kind, POEM, size).vocab_size == size
    for size in (low - 1, high + 1, 0, -1):
        with pytest.raises(UserError, match="vocab_size"):
            SentencePieceTokenizer.train(kind, POEM, size)


@pytest.mark.parametrize("kind", KINDS)
def test_unknown_characters_are_unk_and_decode_to_nothing(kind: str) -> None:
    tokenizer = SentencePieceTokenizer.train(kind, POEM, 45)
    ids = tokenizer.encode("tiger 字 night")
    assert ids.count(tokenizer.unk_id) == 1
    assert "字" not in tokenizer.decode(ids)
    assert tokenizer.decode([2, *tokenizer.encode("the night"), 3, 0, 0, 1]) == "the night"


@pytest.mark.parametrize("kind", KINDS)
def test_special_pieces_spelled_in_the_text_are_plain_text(kind: str) -> None:
    lines = [*POEM, "<s> the <unk> of the </s> night <blank>"]
    tokenizer = SentencePieceTokenizer.train(kind, lines, 50)
    ids = tokenizer.encode(lines[-1])
    assert min(ids) > 3
    assert tokenizer.decode(ids) == lines[-1]


@pytest.mark.parametrize("kind", KINDS)
def test_lines_sentencepiece_would_leave_out_are_learned_from(kind: str) -> None:
    lines = ["abc " * 3000, "de\0f gh", "ij\u2585kl"]  # longer than 4192 bytes; reserved characters
    tokenizer = SentencePieceTokenizer.train(kind, lines, 18)
    assert tokenizer.unk_id not in tokenizer.encode("abc def ghij kl")


@pytest.mark.parametrize("kind", KINDS)
def test_no_text_is_no_ids(kind: str) -> None:
    tokenizer = SentencePieceTokenizer.train(kind, POEM, 45)
    assert tokenizer.encode("") == tokenizer.encode(" \n ") == []
    assert tokenizer.decode([]) == tokenizer.decode([0, 1, 2, 3]) == ""


def test_lower_coverage_leaves_rare_characters_unknown() -> None:
    lines = ["abc " * 500, "字"]
    assert 1 in SentencePieceTokenizer.train("bpe", lines, 9, character_coverage=0.99).encode("字")
    assert 1 not in SentencePieceTokenizer.train("bpe", lines, 9).encode("字")
    with pytest.raises(UserError, match=r"at most 1, not 99\.5"):
        SentencePieceTokenizer.train("bpe", lines, 9, character_coverage=99.5)


@pytest.mark.parametrize("lines", [[], [""], [" ", "\n"], ["\0"]])
def test_empty_training_text_is_an_error(lines: list[str]) -> None:
    with pytest.raises(UserError, match="no text to train a tokenizer on"):
        SentencePieceTokenizer.train("unigram", lines, 100)


@pytest.mark.parametrize("index", [-1, 45, 10**12])
def test_an_id_outside_the_vocabulary_is_an_error(index: int) -> None:
    tokenizer = SentencePieceTokenizer.train("unigram", POEM, 45)
    for use in (tokenizer.decode, tokenizer.pieces):
        with pytest.raises(ValueError, match=f"id {index} is not in the vocabulary: expected 0 to 44"):
            use([4, index])


def test_a_pickled_tokenizer_is_the_same() -> None:
    tokenizer = SentencePieceTokenizer.train("bpe", POEM, 45)
    again = pickle.loads(pickle.dumps(tokenizer))
    assert again.kind == "bpe"
    assert again.encode(POEM[0]) == tokenizer.encode(POEM[0])
