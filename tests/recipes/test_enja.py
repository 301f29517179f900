"""The recipe of English and Japanese sentences: its data, and what it refuses."""

from __future__ import annotations

import gzip
from pathlib import Path
from types import ModuleType

import pytest
from recipe_tree import copy_recipe, load_script, run

from s2s.errors import UserError


@pytest.fixture
def data() -> ModuleType:
    return load_script("egs/small_parallel_enja/mt/local/data.py")


def copy_of_corpus(folder: Path, packed: bool, texts: dict[str, list[str]]) -> Path:
    """Files as the repository has them, or each packed."""
    place = folder / "small_parallel_enja"
    place.mkdir(parents=True)
    for name, lines in texts.items():
        content = "".join(f"{line}\n" for line in lines).encode()
        path = place / (f"{name}.gz" if packed else name)
        path.write_bytes(gzip.compress(content) if packed else content)
    return folder


PARTS = {
    f"{part}.{code}": [f"{code} {part}  one", "", "three"] for part in ("train", "dev", "test") for code in ("en", "ja")
}


@pytest.mark.parametrize("packed", [False, True])
def test_parts_are_written_line_for_line(packed: bool, tmp_path: Path) -> None:
    recipe = copy_recipe("small_parallel_enja", tmp_path / "tree", "mt")
    corpus = copy_of_corpus(tmp_path / "corpora", packed, PARTS)
    done = run(recipe / "run.sh", "--stop-stage", "0", "--data-root", str(corpus))
    assert done.returncode == 0, done.stderr
    assert "data/train: 3 sentences in en and ja" in done.stdout
    for part in ("train", "dev", "test"):
        assert (recipe / "data" / part / "text.ja").read_text() == f"ja {part} one\n\nthree\n"


def test_what_is_missing_or_does_not_match_stops_it(tmp_path: Path) -> None:
    recipe = copy_recipe("small_parallel_enja", tmp_path / "tree", "mt")
    done = run(recipe / "run.sh", "--data-root", str(tmp_path))
    assert done.returncode == 1
    assert "holds no copy of the corpus; expected train.en in small_parallel_enja/" in done.stderr
    assert not (recipe / "data").exists()
    corpus = copy_of_corpus(tmp_path / "corpora", False, {**PARTS, "dev.ja": ["one"]})
    done = run(recipe / "run.sh", "--data-root", str(corpus))
    assert done.returncode == 1
    assert "error: dev: 3 lines in en, 1 in ja; copy the corpus again" in done.stderr


def test_the_real_corpus_is_found(data: ModuleType, data_root: Path, tmp_path: Path) -> None:
    for part, size in (("train", 50_000), ("dev", 500), ("test", 500)):
        for code in ("en", "ja"):
            assert len(data.read_text(data.find(part, code, str(data_root), tmp_path))) == size
    with pytest.raises(UserError, match="holds no copy"):
        data.find("train", "en", str(tmp_path), tmp_path)
