from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest
from tiny_whisper import SPECIAL, VOCAB_SIZE, write_tiktoken, write_vocabulary

from s2s.errors import UserError
from s2s.pretrained import vocabulary
from s2s.pretrained.packages import Package, PackagedFile
from s2s.pretrained.vocabulary import MULTILINGUAL, find_vocabulary, read_vocabulary, vocabulary_beside
from s2s.tokenizers.whisper import WhisperTokenizer

TEXT = " añ你"


@pytest.fixture
def openai(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """OpenAI's file in a folder of an installed package, which is the only one; there is no network."""
    path = write_tiktoken(tmp_path / "site" / "whisper" / "assets" / MULTILINGUAL)
    (tmp_path / "site" / "whisper" / "__init__.py").write_text("raise SystemExit('the package was imported')")
    monkeypatch.setattr(vocabulary, "URL", "http://127.0.0.1:9/")
    monkeypatch.setattr(vocabulary, "PACKAGES", {})
    monkeypatch.setitem(vocabulary.SHA256, MULTILINGUAL, hashlib.sha256(path.read_bytes()).hexdigest())
    monkeypatch.delitem(sys.modules, "whisper", raising=False)
    return path


def installed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(path)


def test_every_kind_of_place_gives_the_same_tokens(tmp_path: Path) -> None:
    file = write_tiktoken(tmp_path / "openai" / MULTILINGUAL)
    (tmp_path / "hf").mkdir()
    write_vocabulary(tmp_path / "hf")
    expected = WhisperTokenizer.from_tiktoken(file, VOCAB_SIZE)
    expected.save(tmp_path / "bundle" / "tokenizer")
    for place in (file, file.parent, tmp_path / "bundle", tmp_path / "bundle" / "tokenizer"):
        found = read_vocabulary(place, VOCAB_SIZE)
        assert found.encode(TEXT) == expected.encode(TEXT) == list(TEXT.encode())
        assert found.pieces(range(VOCAB_SIZE)) == expected.pieces(range(VOCAB_SIZE))
    for place in (tmp_path / "hf", tmp_path / "hf" / "vocab.json"):  # bytes in another order
        found = read_vocabulary(place, VOCAB_SIZE)
        assert found.decode(found.encode(TEXT)) == TEXT
        assert found.pieces(range(256, VOCAB_SIZE)) == expected.pieces(range(256, VOCAB_SIZE))


def test_a_vocabulary_of_another_size_is_refused(tmp_path: Path) -> None:
    write_vocabulary(tmp_path)
    with pytest.raises(UserError, match=rf"it has {VOCAB_SIZE} tokens, the model {VOCAB_SIZE + 1}"):
        read_vocabulary(tmp_path, VOCAB_SIZE + 1)
    with pytest.raises(UserError, match=rf"has {VOCAB_SIZE - 99} to {VOCAB_SIZE + 1} in all"):
        read_vocabulary(write_tiktoken(tmp_path / MULTILINGUAL), VOCAB_SIZE + 2)


def test_no_vocabulary_is_an_error_that_names_the_place(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no vocabulary here: expected one of tokenizer\.json"):
        read_vocabulary(tmp_path, VOCAB_SIZE)
    with pytest.raises(UserError, match=r"gone.*: cannot read"):
        read_vocabulary(tmp_path / "gone", VOCAB_SIZE)
    assert vocabulary_beside(tmp_path, VOCAB_SIZE) is None


def test_the_vocabulary_beside_the_weights_may_have_fewer_tokens_than_they(tmp_path: Path) -> None:
    write_vocabulary(tmp_path)
    found = vocabulary_beside(tmp_path, VOCAB_SIZE + 7)  # some trainings widen the output
    assert found is not None
    assert found.vocab_size == VOCAB_SIZE + 7


def test_one_of_an_installed_package_is_found_without_running_it(openai: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(openai.parents[2], monkeypatch)
    assert find_vocabulary(VOCAB_SIZE).encode(TEXT) == list(TEXT.encode())
    assert "whisper" not in sys.modules


def test_a_file_of_that_name_with_other_content_is_passed_over(openai: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(openai.parents[2], monkeypatch)
    openai.write_bytes(openai.read_bytes() + b"\n")
    with pytest.raises(UserError, match=r"come without a vocabulary"):
        find_vocabulary(VOCAB_SIZE)


def test_one_of_weights_that_are_installed_is_taken_where_its_size_is_right(
    openai: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "more" / "some_weights_of_tests"
    module.mkdir(parents=True)
    (module / "__init__.py").touch()
    write_vocabulary(module)
    file = PackagedFile("vocab.json", (f"{module.name}/vocab.json",), "")
    monkeypatch.setattr(vocabulary, "PACKAGES", {"x": Package("x", file, file, file)})
    installed(module.parent, monkeypatch)
    assert find_vocabulary(VOCAB_SIZE).decode(find_vocabulary(VOCAB_SIZE).encode(TEXT)) == TEXT
    with pytest.raises(UserError, match=r"come without a vocabulary"):
        find_vocabulary(VOCAB_SIZE + 1)


def test_one_that_was_fetched_is_used_without_network(openai: Path, cache: Path) -> None:
    with pytest.raises(UserError, match=r"cannot be reached .* give one with --vocabulary"):
        find_vocabulary(VOCAB_SIZE)
    (cache / "vocabulary").mkdir(exist_ok=True)
    openai.rename(cache / "vocabulary" / MULTILINGUAL)
    assert find_vocabulary(VOCAB_SIZE).encode(TEXT) == list(TEXT.encode())


def test_the_languages_follow_from_the_size(tmp_path: Path) -> None:
    path = write_tiktoken(tmp_path / MULTILINGUAL)
    assert "yue" not in read_vocabulary(path, VOCAB_SIZE).languages
    assert "yue" in read_vocabulary(path, VOCAB_SIZE + 1).languages  # as large-v3
    assert list(read_vocabulary(path, VOCAB_SIZE).languages) == [piece.strip("<|>") for piece in SPECIAL[2:101]]
