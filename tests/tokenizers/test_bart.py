"""BART's tokenizer gives the ids and texts of transformers', from the same files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import peers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_seq2seq import ENGLISH, write_bart_tokenizer

from s2s.errors import UserError
from s2s.tokenizers.bart import BartTokenizer
from s2s.tokenizers.load import load_tokenizer

TEXTS = st.one_of(st.text(max_size=20), st.lists(st.sampled_from(ENGLISH)).map(" ".join))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bart")
    write_bart_tokenizer(path)
    return path


@pytest.fixture(scope="module")
def theirs(folder: Path) -> Any:
    return peers.transformers().BartTokenizer.from_pretrained(folder)


@settings(max_examples=60)
@given(text=TEXTS)
def test_ids_are_those_of_transformers(text: str, folder: Path, theirs: Any) -> None:
    ours = BartTokenizer.from_huggingface(folder)
    assert ours.encode_source(text) == theirs(text).input_ids
    assert ours.encode(text) == theirs(text, add_special_tokens=False).input_ids


@settings(max_examples=60)
@given(ids=st.lists(st.integers(0, 266), max_size=12))
def test_texts_are_those_of_transformers(ids: list[int], folder: Path, theirs: Any) -> None:
    ours = BartTokenizer.from_huggingface(folder)
    assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


@given(text=TEXTS)
def test_any_text_comes_back(text: str, folder: Path) -> None:
    ours = BartTokenizer.from_huggingface(folder)
    assert ours.decode(ours.encode_source(text)) == text


def test_names_of_special_tokens_are_text(folder: Path) -> None:
    ours = BartTokenizer.from_huggingface(folder)
    assert ours.decode(ours.encode("</s><mask>")) == "</s><mask>"


def test_it_is_read_from_tokenizer_json_alone(folder: Path, theirs: Any, tmp_path: Path) -> None:
    theirs.save_pretrained(tmp_path)
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).unlink(missing_ok=True)
    ours, other = BartTokenizer.from_huggingface(folder), BartTokenizer.from_huggingface(tmp_path)
    assert other.pieces(range(other.vocab_size)) == ours.pieces(range(ours.vocab_size))
    assert all(other.encode(text) == ours.encode(text) for text in ENGLISH)


@pytest.mark.parametrize("vocab_size", [266, 267, 300])
def test_it_is_saved_and_loaded_by_its_kind(vocab_size: int, folder: Path, tmp_path: Path) -> None:
    ours = BartTokenizer.from_huggingface(folder, vocab_size)  # with 266, <mask> has no row in the model
    ours.save(tmp_path)
    found = load_tokenizer(tmp_path)
    assert isinstance(found, BartTokenizer)
    assert (found.bos_id, found.eos_id, found.unk_id, found.blank_id, found.languages) == (0, 2, 3, -1, ())
    assert found.vocab_size == found.source_vocab_size == vocab_size
    assert found.pieces(range(vocab_size)) == ours.pieces(range(vocab_size))
    assert ours.pieces([0, 2, 265]) == ["<s>", "</s>", "▁see"]
    assert all(found.encode_source(text) == ours.encode_source(text) for text in ENGLISH)


def test_there_is_no_choice_of_a_language(folder: Path) -> None:
    with pytest.raises(UserError, match=r"'de': the model writes one language only"):
        BartTokenizer.from_huggingface(folder).encode_source("a", "de")


def test_what_is_missing_or_does_not_fit_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"no vocabulary here: expected vocab\.json with merges\.txt, or tokenizer\.json"
    ):
        BartTokenizer.from_huggingface(tmp_path)
    with pytest.raises(UserError, match=r"token 265 is not below the size of the vocabulary, 265"):
        BartTokenizer.from_huggingface(folder, 265)
    write_bart_tokenizer(tmp_path)
    ids = json.loads((tmp_path / "vocab.json").read_text())
    del ids["</s>"]
    (tmp_path / "vocab.json").write_text(json.dumps(ids))
    with pytest.raises(UserError, match=r"not a vocabulary of BART: no token </s>"):
        BartTokenizer.from_huggingface(tmp_path)


def test_saved_files_that_are_broken_are_named(folder: Path, tmp_path: Path) -> None:
    BartTokenizer.from_huggingface(folder).save(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"kind": "bart", "vocab_size": 267}')
    with pytest.raises(UserError, match=r'tokenizer\.json: expected "vocab_size", and "special"'):
        load_tokenizer(tmp_path)
    (tmp_path / "vocabulary.tiktoken").unlink()
    (tmp_path / "tokenizer.json").write_text('{"kind": "bart", "vocab_size": 267, "special": {"<s>": 0, "</s>": 2}}')
    with pytest.raises(UserError, match=r"vocabulary\.tiktoken: cannot read"):
        load_tokenizer(tmp_path)
