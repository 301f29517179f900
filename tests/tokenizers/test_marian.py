"""Marian's tokenizer gives the ids and texts of transformers', from the same files."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import peers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_seq2seq import ENGLISH, GERMAN, LANGUAGES, write_marian_tokenizer

from s2s.errors import UserError
from s2s.tokenizers.load import load_tokenizer
from s2s.tokenizers.marian import MarianTokenizer

TEXTS = st.one_of(
    st.lists(st.sampled_from(" ".join([*ENGLISH, *GERMAN, "Ärger", "ﬁn", "e\u0301", "\u3000", "▁"]).split(" "))).map(
        " ".join
    ),
    st.text(alphabet="abdehinst Vö,.!▁\t\u00a0", max_size=20),
)


@pytest.fixture(scope="module", params=["shared", "separate", "multilingual"])
def folder(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("marian")
    write_marian_tokenizer(path, request.param == "separate", LANGUAGES if request.param == "multilingual" else ())
    return path


@pytest.fixture(scope="module")
def both(folder: Path) -> tuple[MarianTokenizer, Any]:
    theirs = peers.transformers().MarianTokenizer
    separate = (folder / "target_vocab.json").exists()
    more = {"target_vocab_file": str(folder / "target_vocab.json"), "separate_vocabs": True} if separate else {}
    files = (str(folder / name) for name in ("source.spm", "target.spm", "vocab.json"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it would like sacremoses, which it does not use
        return MarianTokenizer.from_huggingface(folder), theirs(*files, **more)


@settings(max_examples=60)
@given(text=TEXTS)
def test_ids_are_those_of_transformers(text: str, both: tuple[MarianTokenizer, Any]) -> None:
    ours, theirs = both
    own = ours.encode_source(text, "deu") if ours.languages else ours.encode_source(text)
    nothing = [*([2] if ours.languages else []), 0]  # the code, </s>
    assert (own or nothing) == theirs(f">>deu<<{text}" if ours.languages else text).input_ids
    assert own != nothing
    assert [*ours.encode(text), ours.eos_id] == theirs(text_target=text).input_ids


@settings(max_examples=60)
@given(data=st.data())
def test_texts_are_those_of_transformers(data: st.DataObject, both: tuple[MarianTokenizer, Any]) -> None:
    ours, theirs = both
    languages = {i for i, piece in enumerate(ours.pieces(range(ours.vocab_size))) if piece in LANGUAGES}
    ids = [i for i in data.draw(st.lists(st.integers(0, ours.vocab_size - 1), max_size=12)) if i not in languages]
    assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


@given(text=st.lists(st.sampled_from(" ".join(GERMAN).split()), min_size=1, max_size=5).map(" ".join))
def test_a_text_of_the_target_language_comes_back(text: str, both: tuple[MarianTokenizer, Any]) -> None:
    ours = both[0]
    assert ours.decode([ours.bos_id, *ours.encode(text), ours.eos_id]) == text


def test_a_text_without_pieces_has_no_ids(both: tuple[MarianTokenizer, Any]) -> None:
    ours = both[0]
    for text in ("", " ", "\u200b", "\ufeff \u200b"):  # invisible ones, which sentencepiece drops
        assert ours.encode_source(text, "nld" if ours.languages else None) == []


def test_it_is_saved_and_loaded_by_its_kind(folder: Path, tmp_path: Path) -> None:
    ours = MarianTokenizer.from_huggingface(folder, 100)
    ours.save(tmp_path)
    found = load_tokenizer(tmp_path)
    assert isinstance(found, MarianTokenizer)
    for name in ("kind", "vocab_size", "source_vocab_size", "unk_id", "bos_id", "eos_id", "blank_id", "languages"):
        assert getattr(found, name) == getattr(ours, name)
    language = ours.languages[0] if ours.languages else None
    for text in [*ENGLISH, *GERMAN, ""]:
        assert found.encode(text) == ours.encode(text)
        assert found.encode_source(text, language) == ours.encode_source(text, language)
    assert found.pieces(range(100)) == ours.pieces(range(100))
    assert found.pieces([99]) == ["<99>"]
    assert found.decode([99]) == ""
    assert (found.vocab_size, found.blank_id, found.pieces([found.unk_id])) == (100, -1, ["<unk>"])


@pytest.mark.parametrize("ids", [[-1], [10_000]])
def test_an_id_that_is_none_is_refused(ids: list[int], both: tuple[MarianTokenizer, Any]) -> None:
    for method in (both[0].decode, both[0].pieces):
        with pytest.raises(ValueError, match=r"id -?\d+ is not in the vocabulary"):
            method(ids)


def test_a_language_is_named_by_option_or_in_the_text(tmp_path: Path) -> None:
    write_marian_tokenizer(tmp_path, languages=LANGUAGES)
    ours = MarianTokenizer.from_huggingface(tmp_path)
    assert ours.languages == ("deu", "nld")
    first = {language: ours.encode_source("the sea", language)[0] for language in ours.languages}
    assert ours.pieces(list(first.values())) == list(LANGUAGES)
    assert ours.encode_source("the sea", "nld")[1:] == ours.encode_source("the sea", "deu")[1:]
    assert ours.encode_source(">>nld<< the sea") == ours.encode_source("the sea", "nld")
    assert ours.encode_source(" >>nld<<the sea", "deu") == ours.encode_source("the sea", "nld")  # the text's own counts
    assert ours.decode([first["deu"], *ours.encode("das Meer")]) == "das Meer"


def test_a_language_that_the_model_lacks_is_refused(tmp_path: Path) -> None:
    write_marian_tokenizer(tmp_path / "many", languages=LANGUAGES)
    write_marian_tokenizer(tmp_path / "one")
    many, one = (MarianTokenizer.from_huggingface(tmp_path / name) for name in ("many", "one"))
    with pytest.raises(UserError, match=r"no target language: name one; it has deu, nld"):
        many.encode_source("the sea")
    with pytest.raises(UserError, match=r"'dea': the model lacks it; it has deu, nld\. Did you mean 'deu'\?"):
        many.encode_source("the sea", "dea")
    with pytest.raises(UserError, match=r"'xyz': the model lacks it"):
        many.encode_source(">>xyz<< the sea")
    with pytest.raises(UserError, match=r"'deu': the model translates into one language only"):
        one.encode_source("the sea", "deu")
    assert one.encode_source(">>deu<< a") != one.encode_source("a")  # text as any other


def change(path: Path, how: str) -> None:
    vocabulary = path / "vocab.json"
    ids = json.loads(vocabulary.read_text())
    if how.startswith("no "):
        del ids[how.removeprefix("no ")]
    elif how == "twice":
        ids["<unk>"] = 0
    elif how in ("negative", "text"):
        ids["<unk>"] = -1 if how == "negative" else "1"
    vocabulary.write_text(json.dumps(ids))
    if how == "list":
        vocabulary.write_text("[]")
    elif how == "cut":
        vocabulary.write_text('{"</s>": 0')
    elif how == "broken model":
        (path / "target.spm").write_bytes(b"no model")
    elif how == "empty":
        (path / "source.spm").write_bytes(b"")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("no <unk>", r"vocab\.json has no piece <unk>"),
        ("no <pad>", r"vocab\.json has no piece <pad>"),
        ("twice", r"'<unk>' and '</s>' have the same id, 0"),
        ("negative", r"piece '<unk>' has the id -1"),
        ("text", r"piece '<unk>' has the id '1'"),
        ("list", r"vocab\.json: expected pieces with their ids"),
        ("cut", r"vocab\.json: not readable as JSON"),
        ("broken model", r"target\.spm is not a sentencepiece model"),
        ("empty", r"source\.spm is empty"),
    ],
)
def test_a_broken_folder_is_refused_with_what_is_wrong(how: str, message: str, tmp_path: Path) -> None:
    write_marian_tokenizer(tmp_path)
    change(tmp_path, how)
    with pytest.raises(UserError, match=message):
        MarianTokenizer.from_huggingface(tmp_path)


def test_a_vocabulary_larger_than_the_model_is_refused(tmp_path: Path) -> None:
    write_marian_tokenizer(tmp_path)
    with pytest.raises(UserError, match=r"piece \d+ is not below the size of the vocabulary, 9"):
        MarianTokenizer.from_huggingface(tmp_path, 9)


def test_saved_files_that_are_broken_are_named(tmp_path: Path) -> None:
    write_marian_tokenizer(tmp_path / "theirs")
    MarianTokenizer.from_huggingface(tmp_path / "theirs").save(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"kind": "marian", "vocab_size": "many"}')
    with pytest.raises(UserError, match=r'tokenizer\.json: expected \{"vocab_size"'):
        load_tokenizer(tmp_path)
