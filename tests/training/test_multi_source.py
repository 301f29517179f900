"""A model of two sources: trained, and told two files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import Cli
from trainings import small_translation, train, write_captions

from s2s.errors import UserError
from s2s.models.translation_bundle import load_translation_bundle
from s2s.tokenizers import JointTokenizer, train_tokenizer
from s2s.translation import Translator


@pytest.fixture(scope="module")
def data(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 captions in three languages, 10 more to validate on, and a tokenizer of them."""
    folder = tmp_path_factory.mktemp("captions")
    text = write_captions(data_root, folder, 60, 10)
    JointTokenizer(train_tokenizer("bpe", text, 300)).save(folder / "tokenizer")
    return folder


def options(data: Path, *more: str) -> list[str]:
    small = small_translation(data, "tokenizer", "encoder.encoder", 16)
    return ["model=multi_source_translation", *small, "text.pairs=[en+de-fr]", "training.max_epochs=1", *more]


@pytest.fixture(scope="module")
def model(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    said = train("train_translation", folder, options(data))
    assert "on 60 sentences, validating on 10" in said[1]
    return next((folder / "checkpoints").iterdir())


def test_a_bundle_is_read_back_and_its_front_is_one(model: Path) -> None:
    loaded = load_translation_bundle(model).model
    first, second = loaded.encoder.encoders  # type: ignore[attr-defined]
    assert first.front is second.front
    differ = [not torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True)]
    assert any(differ)


def test_two_files_are_translated_line_for_line(model: Path, data: Path, tmp_path: Path, s2s_cli: Cli) -> None:
    english, german = data / "dev/text.en", data / "dev/text.de"
    command = ["translate", "--model", model, "--beam-size", "2"]
    code, _, error = s2s_cli(*command, english, "--also", german, "--output", tmp_path / "out")
    assert code == 0, error
    lines = (tmp_path / "out").read_text().splitlines()
    assert len(lines) == 10
    translator = Translator(load_translation_bundle(model), batch_tokens=1)
    pairs = list(zip(english.read_text().splitlines(), german.read_text().splitlines(), strict=True))
    with_five = Translator(load_translation_bundle(model), batch_tokens=200)
    alone, together = ([each.text for each in made.translate(pairs)] for made in (translator, with_five))
    assert alone == together
    code, _, error = s2s_cli(*command, english, "--output", tmp_path / "one")
    assert code == 1
    assert "text 1: the model reads 2 sources at once, and was given 1" in error
    assert not (tmp_path / "one").exists()


def test_the_card_tells_of_the_second_file(model: Path, tmp_path: Path, s2s_cli: Cli) -> None:
    code, _, error = s2s_cli("bundle", model, "--out", tmp_path / "two")
    assert code == 0, error
    assert "s2s translate --model two text.txt --also other.txt" in (tmp_path / "two/README.md").read_text()
    assert s2s_cli("info", tmp_path / "two")[0] == 0


def test_a_source_may_be_missing_and_where_all_are_nothing_is_written(model: Path) -> None:
    translator = Translator(load_translation_bundle(model))
    found = list(translator.translate([("A dog runs.", ""), ("", " "), ("", "Ein Hund läuft.")]))
    assert found[1].text == ""
    assert found[0].source == ("A dog runs.", "")
    assert all(torch.isfinite(torch.tensor(each.score)) for each in found)


def test_files_that_do_not_belong_together_are_named(model: Path, data: Path, tmp_path: Path, s2s_cli: Cli) -> None:
    (tmp_path / "short").write_text("Ein Hund.\n")
    english = data / "dev/text.en"
    command = ["translate", "--model", model, "--output", tmp_path / "out"]
    code, _, error = s2s_cli(*command, english, "--also", tmp_path / "short")
    assert code == 1
    assert "short: ends before line 2, and another file has more" in error
    assert not (tmp_path / "out").exists()
    code, _, error = s2s_cli(*command, english, "--also", tmp_path / "nowhere")
    assert code == 1
    assert "nowhere: cannot read it" in error
    code, _, error = s2s_cli(*command, english, english, "--also", english)
    assert code == 2
    assert "--also: goes with one FILE" in error
    code, _, error = s2s_cli(*command, "-", "--also", english)
    assert code == 2
    assert "give files, not standard input" in error


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["text.pairs=[en-fr]"], r"text\.pairs: en-fr has 1 sources, and the model reads 2"),
        (["text.pairs=[en+de+cs-fr]"], r"en\+de\+cs-fr has 3 sources, and the model reads 2"),
        (
            ["model.decoder.sources.combination=all"],
            r"model\.decoder\.sources\.combination=all: expected one of serial",
        ),
        (["model.decoder.sources.num_sources=3"], r"the encoder reads 2 sources, the decoder attends to 3"),
    ],
)
def test_what_does_not_fit_is_named(overrides: list[str], message: str, data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        train("train_translation", tmp_path, options(data, *overrides))
