"""The tokenizer of both sides of a translation, on real captions in four languages."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from conftest import Cli

from s2s.errors import UserError
from s2s.models.translation_bundle import TranslationTokenizer
from s2s.tokenizers import JointTokenizer, load_tokenizer, train_tokenizer


@pytest.fixture(scope="module")
def captions(data_root: Path) -> dict[str, list[str]]:
    found = {}
    for language in ("en", "de", "fr", "cs"):
        with gzip.open(data_root / f"multi30k/val.{language}.gz", "rt", encoding="utf-8") as stream:
            found[language] = [line.strip() for line in stream][:300]
    return found


@pytest.mark.parametrize("languages", [(), ("de", "fr")])
def test_what_was_saved_encodes_and_decodes_the_same(
    languages: tuple[str, ...], captions: dict[str, list[str]], tmp_path: Path
) -> None:
    text = captions["en"] + captions["de"] + captions["fr"]
    tokenizer = JointTokenizer(train_tokenizer("bpe", text, 600), languages)
    tokenizer.save(tmp_path)
    again = load_tokenizer(tmp_path)
    assert isinstance(again, TranslationTokenizer)
    assert (again.vocab_size, again.source_vocab_size, again.languages) == (600 + len(languages),) * 2 + (languages,)
    for line in text[::50]:
        assert again.encode(line) == tokenizer.encode(line) == tokenizer.tokenizer.encode(line)
        assert again.decode(again.encode(line)) == " ".join(line.split())


def test_a_source_begins_with_the_language_to_write_and_ends_with_eos(captions: dict[str, list[str]]) -> None:
    tokenizer = JointTokenizer(train_tokenizer("bpe", captions["en"], 300), ["de", "fr"])
    ids = tokenizer.encode_source("A dog.", "fr")
    assert tokenizer.pieces(ids)[0] == "<2fr>"
    assert ids[1:] == [*tokenizer.encode("A dog."), tokenizer.eos_id]
    assert tokenizer.decode(ids) == "A dog."
    with pytest.raises(UserError, match=r"several languages; name one of de, fr"):
        tokenizer.encode_source("A dog.")
    with pytest.raises(UserError, match=r"language 'ed': the model does not write it\. Did you mean 'de'\?"):
        tokenizer.encode_source("A dog.", "ed")
    with pytest.raises(UserError, match="writes one language only"):
        JointTokenizer(tokenizer.tokenizer).encode_source("A dog.", "de")
    for languages in (["d e"], ["de", "de"]):
        with pytest.raises(ValueError, match="language"):
            JointTokenizer(tokenizer.tokenizer, languages)


def test_the_command_makes_one(captions: dict[str, list[str]], tmp_path: Path, s2s_cli: Cli) -> None:
    for language in ("en", "de"):
        (tmp_path / language).write_text("\n".join(captions[language]) + "\n", encoding="utf-8")
    files = [str(tmp_path / "en"), str(tmp_path / "de"), "--kind", "unigram", "--vocab-size", "400"]
    for i, (more, languages) in enumerate(
        {
            (): (),
            ("--target-language", "de"): (),
            ("--target-language", "de", "--target-language", "en"): ("de", "en"),
        }.items()
    ):
        out = str(tmp_path / f"tokenizer-{i}")
        code, _, error = s2s_cli("tokenizer", "train", *files, "--translation", *more, "--out", out)
        assert code == 0, error
        tokenizer = load_tokenizer(out)
        assert isinstance(tokenizer, JointTokenizer)
        assert tokenizer.languages == languages
    for more, message in {
        ("--target-language", "de"): "add --translation",
        ("--translation", "--target-language", "a b", "--target-language", "c"): "--target-language: language 'a b'",
    }.items():
        code, _, error = s2s_cli("tokenizer", "train", *files, *more, "--out", str(tmp_path / "no"))
        assert code == 1
        assert message in error


def test_a_broken_folder_is_named(captions: dict[str, list[str]], tmp_path: Path) -> None:
    JointTokenizer(train_tokenizer("char", captions["en"]), ["de", "fr"]).save(tmp_path)
    (tmp_path / "languages.txt").write_text("de\nde\n")
    with pytest.raises(UserError, match="twice"):
        load_tokenizer(tmp_path)
    (tmp_path / "languages.txt").unlink()
    with pytest.raises(UserError, match=r"languages\.txt: cannot read"):
        load_tokenizer(tmp_path)
