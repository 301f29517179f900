"""The Kerstin recipe: the parts it makes of the corpus, and what becomes of its streams."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile
from recipe_tree import copy_recipe, load_script, run

from s2s.errors import UserError


@pytest.fixture
def data() -> ModuleType:
    return load_script("egs/kerstin/asr/local/data.py")


@pytest.fixture
def official(tmp_path: Path) -> Path:
    """A made-up corpus as the official repository lays it out."""
    root = tmp_path / "corpora" / "dataset-voice-kerstin"
    (root / "verified").mkdir(parents=True)
    lines = []
    for i in range(60):
        name, text = f"k{i:02d}", f"Über-Satz „Nummer“ {'abcdefghij'[i % 10]} {'klmnop'[i // 10]}!"
        lines.append(f"{name}|{text}")
        samples = np.random.default_rng(i).integers(-3000, 3000, 48000).astype(np.int16)
        soundfile.write(root / "verified" / f"{name}.flac", samples, 48000)
    (root / "metadata.csv").write_text("\n".join([*lines, "k98|Es sind 3.", "k99|Nicht dabei."]) + "\n")
    soundfile.write(root / "verified" / "k98.flac", samples, 48000)
    return root


def test_every_sentence_is_in_the_part_that_its_text_says(official: Path, data: ModuleType, tmp_path: Path) -> None:
    recipe = copy_recipe("kerstin", tmp_path / "tree")
    done = run(recipe / "run.sh", "--stop-stage", "0", "--data-root", str(official.parent))
    assert done.returncode == 0, done.stderr
    assert "1 of 61 left out, figures or no words: k98" in done.stdout
    found = {}
    for part in ("train", "dev", "test"):
        for line in (recipe / "data" / part / "text").read_text().splitlines():
            name, text = line.split(" ", 1)
            found[name] = text
            assert data.part_of(text) == part
    assert len(found) == 60
    assert found["k00"] == "über satz nummer a k"
    info = soundfile.info(next((recipe / "data" / "train" / "audio").iterdir()))
    assert (info.samplerate, info.frames) == (16000, 16000)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("id\tpath\na\tb\n", r"metadata\.tsv:1: no column text"),
        ("id\tpath\ttext\na\tb\n", r"metadata\.tsv:2: not as many columns"),
        ("id\tpath\ttext\na\tb.flac\tSatz\n", r"b\.flac: no such file"),
    ],
)
def test_a_faulty_table_is_named(data: ModuleType, tmp_path: Path, table: str, message: str) -> None:
    (tmp_path / "metadata.tsv").write_text(table)
    with pytest.raises(UserError, match=message):
        data.read_corpus(tmp_path)


def test_the_real_corpus_gives_the_utterances_of_the_results(data: ModuleType, data_root: Path) -> None:
    utterances = data.read_corpus(data_root / "kerstin-german-cc0")
    parts = [data.part_of(utterance.text) for utterance in utterances]
    assert [parts.count(part) for part in ("train", "dev", "test")] == [1136, 52, 83]


def test_final_texts_of_a_log_are_joined_by_file(tmp_path: Path) -> None:
    events = [
        {"source": "x/b.flac", "event": "partial", "text": "ei"},
        {"source": "x/b.flac", "event": "final", "text": "ein satz"},
        {"source": "x/b.flac", "event": "final", "text": "noch einer"},
        {"source": "x/b.flac", "event": "end"},
        {"source": "x/a.flac", "event": "end"},
    ]
    (tmp_path / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    assert load_script("recipes/finals.py").texts(tmp_path / "events.jsonl") == {"a": "", "b": "ein satz noch einer"}


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--chunk", "1"], 2, "'--chunk' is neither an option nor decoding.KEY=VALUE"),
        (["--chunks"], 2, "--chunks needs a value"),
        (["--exp", "nowhere"], 1, "nowhere/averaged: no such folder; run ./run.sh first"),
    ],
)
def test_wrong_options_of_the_stream_are_named(tmp_path: Path, options: list[str], code: int, message: str) -> None:
    recipe = copy_recipe("kerstin", tmp_path / "tree")
    done = run(recipe / "stream.sh", *options)
    assert done.returncode == code
    assert message in done.stderr
    assert "Usage:" in run(recipe / "stream.sh", "--help").stdout
