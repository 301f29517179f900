"""The tokenizer of both sides of a translation, on real captions in four languages."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from conftest import Cli

from s2s.errors import UserError
from s2s.models.translation_bundle import TranslationTokenizer
from s2s.tokenizers import JointTokenizer, load_tokenizer, train_tokenizer
from s2s.tokenizers.joint import prompt_tokens
from s2s.tokenizers.prompts import Prompt


@pytest.fixture(scope="module")
def captions(data_root: Path) -> dict[str, list[str]]:
    found = {}
    for language in ("en", "de", "fr", "cs"):
        with gzip.open(data_root / f"multi30k/val.{language}.gz", "rt", encoding="utf-8") as stream:
            found[language] = [line.strip() for line in stream][:300]
    return found


@pytest.mark.parametrize("languages", [(), ("de",), ("de", "fr")])
def test_what_was_saved_encodes_and_decodes_the_same(
    languages: tuple[str, ...], captions: dict[str, list[str]], tmp_path: Path
) -> None:
    text = captions["en"] + captions["de"] + captions["fr"]
    tokenizer = JointTokenizer(train_tokenizer("bpe", text, 600), languages, ["translate"])
    tokenizer.save(tmp_path)
    again = load_tokenizer(tmp_path)
    assert isinstance(again, TranslationTokenizer)
    size = 600 + (len(languages) + 3 if languages else 0)
    assert (again.vocab_size, again.source_vocab_size, again.languages) == (size, size, languages)
    tokens = prompt_tokens(again)
    assert (tokens.tasks if tokens else ()) == (("translate",) if languages else ())
    for line in text[::50]:
        assert again.encode(line) == tokenizer.encode(line) == tokenizer.tokenizer.encode(line)
        assert again.decode(again.encode(line)) == " ".join(line.split())
        assert again.encode_source(line) == [*again.encode(line), again.eos_id]


def test_prompts_are_pieces_behind_those_of_the_text(captions: dict[str, list[str]]) -> None:
    tokenizer = JointTokenizer(train_tokenizer("bpe", captions["en"], 300), ["de", "fr"])
    assert tokenizer.prompts is not None
    ids = tokenizer.prompts.encode(Prompt("de", "fr"))
    assert min(ids) >= 300
    assert tokenizer.pieces(ids) == ["<de>", "<fr>", "<translate>", "<pnc>"]
    assert tokenizer.decode([*ids, *tokenizer.encode("A dog.")]) == "A dog."
    assert prompt_tokens(tokenizer.tokenizer) is None
    with pytest.raises(UserError, match="writes one language only"):
        JointTokenizer(tokenizer.tokenizer).encode_source("A dog.", "de")


def test_the_command_makes_one(captions: dict[str, list[str]], tmp_path: Path, s2s_cli: Cli) -> None:
    for language in ("en", "de"):
        (tmp_path / language).write_text("\n".join(captions[language]) + "\n", encoding="utf-8")
    files = [str(tmp_path / "en"), str(tmp_path / "de"), "--kind", "unigram", "--vocab-size", "400"]
    both = ("--language", "de", "--language", "en")
    for i, (more, languages, tasks) in enumerate(
        [
            (("--translation",), (), ()),
            (("--translation", *both, "--task", "translate"), ("de", "en"), ("translate",)),
            (both, ("de", "en"), ("transcribe", "translate")),
        ]
    ):
        out = str(tmp_path / f"tokenizer-{i}")
        code, _, error = s2s_cli("tokenizer", "train", *files, *more, "--out", out)
        assert code == 0, error
        tokenizer = load_tokenizer(out)
        assert isinstance(tokenizer, JointTokenizer)
        assert tokenizer.languages == languages
        assert (tokenizer.prompts.tasks if tokenizer.prompts else ()) == tasks
    for more, message in {
        ("--task", "translate"): "--task: is a word of prompts; give their languages too",
        ("--language", "a b"): "--language, --task: 'a b': expected a code",
    }.items():
        code, _, error = s2s_cli("tokenizer", "train", *files, *more, "--out", str(tmp_path / "no"))
        assert code == 1
        assert message in error


def test_a_broken_folder_is_named(captions: dict[str, list[str]], tmp_path: Path) -> None:
    JointTokenizer(train_tokenizer("char", captions["en"]), ["de", "fr"]).save(tmp_path)
    (tmp_path / "languages.txt").write_text("de\nde\n")
    with pytest.raises(UserError, match="twice"):
        load_tokenizer(tmp_path)
    (tmp_path / "tasks.txt").unlink()
    with pytest.raises(UserError, match=r"tasks\.txt: cannot be read"):
        load_tokenizer(tmp_path)
    (tmp_path / "languages.txt").unlink()
    with pytest.raises(UserError, match=r"languages\.txt: cannot be read"):
        load_tokenizer(tmp_path)
