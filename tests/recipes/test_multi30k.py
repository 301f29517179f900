"""The recipe of text translation: its data, its stages, and what it refuses."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest
from recipe_tree import ROOT, copy_recipe, load_script, run

from s2s.data.corpora import read_text
from s2s.errors import UserError


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return copy_recipe("multi30k", tmp_path / "tree", "mt")


def copy_of_corpus(data_root: Path, folder: Path, sizes: dict[str, int]) -> Path:
    """A part of the corpus, as its repository lays it out."""
    place = folder / "data/task1/raw"
    place.mkdir(parents=True)
    for part, size in sizes.items():
        for language in ("en", "de", "fr", "cs"):
            with gzip.open(data_root / f"multi30k/{part}.{language}.gz", "rt", encoding="utf-8") as stream:
                lines = [line for line, _ in zip(stream, range(size), strict=False)]
            with gzip.open(place / f"{part}.{language}.gz", "wt", encoding="utf-8") as stream:
                stream.writelines(lines)
    return folder


def test_all_stages_run_and_what_is_done_is_skipped(recipe: Path, data_root: Path, tmp_path: Path) -> None:
    corpus = copy_of_corpus(data_root, tmp_path / "copy", {"train": 150, "val": 10, "test_2016_flickr": 8})
    small = ["model.encoder.model_dim=32", "model.encoder.num_layers=1", "model.decoder.num_layers=1"]
    options = ["--data-root", str(corpus), "--vocab-size", "400", "--exp", "exp/a", "--pairs", "en-de de-en"]
    options += ["--translate-pairs", "en-de de-en de-fr", *small, "training.max_epochs=2", "text.max_batch_tokens=500"]
    done = run(recipe / "run.sh", *options)
    assert done.returncode == 0, done.stderr
    assert "not the text that RESULTS.md was measured on" in done.stdout  # a part of it
    for pair in ("en-de", "de-en", "de-fr"):
        out = recipe / "exp/a/translate/test_2016_flickr" / pair
        assert len((out / "text").read_text().splitlines()) == 8
        assert json.loads((out / "bleu.json").read_text())
        assert json.loads((out / "chrf.json").read_text())
    table = (recipe / "exp/a/translate/test_2016_flickr/table.md").read_text()
    assert [line.split(" | ")[0] for line in table.splitlines()[2:6]] == [
        "| de-en",
        "| en-de",
        "| mean",
        "| de-fr (zero-shot)",
    ]
    assert table in done.stdout
    assert "BLEU" in (recipe / "exp/a/bundle/README.md").read_text()
    again = run(recipe / "run.sh", *options)
    assert again.returncode == 0
    assert again.stdout.count("is done already") == 7


def test_two_languages_are_read_at_once(recipe: Path, data_root: Path, tmp_path: Path) -> None:
    corpus = copy_of_corpus(data_root, tmp_path / "copy", {"train": 60, "val": 10, "test_2016_flickr": 4})
    small = ["model.encoder.encoder.model_dim=16", "model.encoder.encoder.num_layers=1", "model.decoder.num_layers=1"]
    options = ["--data-root", str(corpus), "--vocab-size", "300", "--exp", "exp/two", "--pairs", "en+de-fr"]
    options += ["--config", "multi_source", "--last", "1", "--stop-stage", "4", *small]
    done = run(recipe / "run.sh", *options, "training.max_epochs=1", "text.max_batch_tokens=500")
    assert done.returncode == 0, done.stderr
    assert len((recipe / "exp/two/translate/test_2016_flickr/en+de-fr/text").read_text().splitlines()) == 4
    assert (recipe / "data/tokenizer-en+de-fr-bpe-300").is_dir()


def test_a_model_begins_with_what_it_learnt_from_noise(recipe: Path, data_root: Path, tmp_path: Path) -> None:
    corpus = copy_of_corpus(data_root, tmp_path / "copy", {"train": 60, "val": 10, "test_2016_flickr": 4})
    small = ["model.encoder.model_dim=32", "model.encoder.num_layers=1", "model.decoder.num_layers=1"]
    options = ["--data-root", str(corpus), "--vocab-size", "300", "--exp", "exp/b", "--pretrain", "2"]
    options += ["--last", "1", "--stop-stage", "4", *small, "training.max_epochs=1", "text.max_batch_tokens=500"]
    done = run(recipe / "run.sh", *options)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("stage ")] == [
        f"stage {number}: {name}" for number, name in enumerate(["data", "tokenizer", "pretrain", "train", "average"])
    ]
    assert "epoch 2/2" in done.stdout  # of the pretraining
    assert f"training.init={Path('exp/b/pretrained')}" in done.stdout
    assert "on 120 sentences, validating on 20" in done.stdout


def test_the_scripts_of_moses_are_those_of_sacremoses(recipe: Path, tmp_path: Path) -> None:
    pytest.importorskip("sacremoses")
    (tmp_path / "text").write_text("Ein Mann, der »Hallo« sagt.\n\nZwei - drei.\n", encoding="utf-8")
    command = [sys.executable, str(ROOT / "recipes/moses.py"), "--language", "de", str(tmp_path / "text")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == 'ein mann , der " hallo " sagt .\n\nzwei - drei .\n'


def test_help_and_wrong_options(recipe: Path) -> None:
    done = run(recipe / "run.sh", "--help")
    assert done.returncode == 0
    for word in ("--pairs", "--translate-pairs", "--vocab-size", "--moses", "--last", "KEY=VALUE", "6 bundle"):
        assert word in done.stdout
    for options, message in {
        ("--pares", "en-de"): "'--pares' is neither an option nor KEY=VALUE",
        ("--pairs", "ende"): "--pairs ende: expected source-target, such as en-de",
        ("--translate-pairs", "ende"): "--translate-pairs ende: expected source-target",
        ("--pairs=en-de",): "'--pairs=en-de' is neither an option nor KEY=VALUE",
        ("--last", "ten"): "--last ten: expected a whole number",
        ("--data",): "--data needs a value",
    }.items():
        done = run(recipe / "run.sh", *options)
        assert done.returncode == 2
        assert message in done.stderr


def test_a_copy_that_lacks_something_or_does_not_match_is_named(data_root: Path, tmp_path: Path) -> None:
    data = load_script("egs/multi30k/mt/local/data.py")
    with pytest.raises(UserError, match=r"holds no copy of the corpus; expected train\.en\.gz in multi30k/"):
        data.find("train.en.gz", str(tmp_path), tmp_path)
    (tmp_path / "broken.gz").write_bytes(b"\x1f\x8b nothing")
    with pytest.raises(UserError, match=r"broken\.gz: cannot be read"):
        read_text(tmp_path / "broken.gz")
