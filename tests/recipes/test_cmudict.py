"""The recipe of letters to phonemes: how words are divided, and what is left out."""

from __future__ import annotations

import gzip
from pathlib import Path
from types import ModuleType

import pytest
from recipe_tree import copy_recipe, load_script, run

from s2s.errors import UserError

ENTRIES = [
    "a AH0",
    "a(2) EY1",
    "a's EY1 Z",
    "b B IY1 # a letter",
    "b(2) B IY2",
    "d.c. D IY1 S IY1",
    "3d TH R IY1 D IY1",
]


@pytest.fixture
def data() -> ModuleType:
    return load_script("egs/cmudict/g2p/local/data.py")


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def test_entries_are_words_of_letters_with_all_their_pronunciations(data: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "cmudict.dict"
    path.write_text("\n".join(ENTRIES) + "\n")
    assert data.read_entries(path, stress=False) == ({"a": ["AH", "EY"], "a's": ["EY Z"], "b": ["B IY"]}, 2)
    assert data.read_entries(path, stress=True)[0]["b"] == ["B IY1", "B IY2"]
    path.write_text("a AH0\nnothing\n")
    with pytest.raises(UserError, match=r"cmudict\.dict:2: 'nothing', expected a word and its phonemes"):
        data.read_entries(path, stress=False)


def test_a_word_is_in_one_part_and_spelled(data_root: Path, tmp_path: Path) -> None:
    recipe = copy_recipe("cmudict", tmp_path / "tree", "g2p")
    corpus = tmp_path / "corpora/cmudict"
    corpus.mkdir(parents=True)
    with gzip.open(data_root / "cmudict/cmudict.dict.gz", "rt", encoding="utf-8") as stream:
        some = [line for number, line in enumerate(stream) if number % 60 == 0 or "(" in line]
    with gzip.open(corpus / "cmudict.dict.gz", "wt", encoding="utf-8") as stream:
        stream.writelines(some)
    done = run(recipe / "run.sh", "--stop-stage", "0", "--data-root", str(corpus.parent))
    assert done.returncode == 0, done.stderr
    assert "entries left out for other signs than letters" in done.stdout
    parts = {part: lines(recipe / "data" / part / "text.letters") for part in ("train", "dev", "test")}
    words = {part: set(found) for part, found in parts.items()}
    assert not words["train"] & words["dev"]
    assert not (words["train"] | words["dev"]) & words["test"]
    assert len(parts["train"]) > len(words["train"])  # several pronunciations of a word
    assert (len(parts["dev"]), len(parts["test"])) == (len(words["dev"]), len(words["test"]))
    assert len(words["test"]) / sum(map(len, words.values())) == pytest.approx(0.05, abs=0.01)
    phonemes = lines(recipe / "data/train/text.phonemes")
    assert len(phonemes) == len(parts["train"])
    assert all(len(letter) == 1 for word in parts["train"] for letter in word.split())
    assert len({phoneme for text in phonemes for phoneme in text.split()}) == 39


def test_a_folder_without_the_dictionary_stops_the_recipe(tmp_path: Path) -> None:
    recipe = copy_recipe("cmudict", tmp_path / "tree", "g2p")
    done = run(recipe / "run.sh", "--data-root", str(tmp_path))
    assert done.returncode == 1
    assert "holds no copy of the corpus; expected cmudict.dict.gz in cmudict/" in done.stderr
