"""The Mboshi recipe: the parts it makes of the corpus, in a copy of either layout."""

from __future__ import annotations

import io
import struct
import tarfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile
from recipe_tree import copy_recipe, load_script, run

from s2s.data.corpora import take_out
from s2s.data.corpus import load_corpus
from s2s.data.validate import validate
from s2s.errors import UserError

SENTENCES = [f"wá {word} {end}" for word in ("adí", "isé", "ngá", "poo") for end in "abdegiklmnprstuvwyzáíóúé"]


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return copy_recipe("mboshi", tmp_path / "tree")


@pytest.fixture
def data() -> ModuleType:
    return load_script("egs/mboshi/asr/local/data.py")


def wav(samples: np.ndarray, stated: int | None = None, rate: int = 16000, after: bytes = b"") -> bytes:
    """A 16-bit WAV file; `stated` is the length in bytes that its header gives, where that is wrong."""
    body = samples.astype("<i2").tobytes()
    head = struct.pack("<4sI4s4sIHHIIHH", b"RIFF", 36 + len(body), b"WAVE", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16)
    return head + b"data" + struct.pack("<I", len(body) if stated is None else stated) + body + after


def noise(seed: int, size: int = 4000) -> np.ndarray:
    return np.random.default_rng(seed).integers(-3000, 3000, size).astype(np.int16)


@pytest.fixture
def official(tmp_path: Path) -> Path:
    """A made-up corpus as the official repository lays it out: 2 x 96 sentences to train on, 8 of the official dev."""
    root = tmp_path / "corpora" / "mboshi-french-parallel-corpus"
    for part, sentences in (("train", SENTENCES * 2), ("dev", [f"wa {word}" for word in "abcdefgh"])):
        folder = root / "full_corpus_newsplit" / part
        folder.mkdir(parents=True)
        for i, sentence in enumerate(sentences):
            name = f"{('abiayi', 'kouarata', 'martial')[i % 3]}_2015-09-08_{part}_{i}"
            (folder / f"{name}.wav").write_bytes(wav(noise(i)))
            (folder / f"{name}.mb").write_text(f"{sentence.capitalize()}.\n")
            (folder / f"{name}.mb.cleaned").write_text(f"{sentence}\n")
            (folder / f"{name}.fr.cleaned").write_text(f"c&apos; est  l&apos; {i}\n")
    return root


def texts(folder: Path, name: str = "text") -> dict[str, str]:
    lines = (folder / name).read_text(encoding="utf-8").splitlines()
    return {line.split(" ", 1)[0]: line.split(" ", 1)[1] for line in lines}


def test_parts_of_the_official_layout_share_no_sentence(
    recipe: Path, official: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = run(recipe / "run.sh", "--stop-stage", "0", "--data-root", str(official.parent))
    assert done.returncode == 0, done.stderr
    parts = {part: texts(recipe / "data" / part) for part in ("train", "dev", "test")}
    assert {part: len(found) for part, found in parts.items()} == {"train": 186, "dev": 6, "test": 8}
    sentences = {part: set(found.values()) for part, found in parts.items()}
    assert not sentences["train"] & sentences["dev"]
    assert not (sentences["train"] | sentences["dev"]) & sentences["test"]
    assert sentences["train"] | sentences["dev"] == set(SENTENCES)
    assert {name.split("_")[0] for name in parts["dev"]} == {"abiayi", "kouarata", "martial"}
    assert "c' est l' 0" in texts(recipe / "data" / "train", "text.fr").values()
    monkeypatch.chdir(recipe)
    assert validate(load_corpus([f"data/{part}" for part in parts]), read_audio=True, require_text=True) == []
    assert "not the utterances that RESULTS.md was measured on: train, dev, test" in done.stdout

    first = (recipe / "data/dev/text").read_text()
    assert run(recipe / "run.sh", "--stop-stage", "0", "--force", "--data-root", str(official)).returncode == 0
    assert (recipe / "data/dev/text").read_text() == first  # the same in every run


def test_what_cannot_be_used_is_left_out_aloud(recipe: Path, official: Path) -> None:
    train = official / "full_corpus_newsplit/train"
    names = sorted(path.stem for path in train.glob("*.wav"))
    (train / f"{names[0]}.mb.cleaned").write_text(" \n")
    (train / f"{names[1]}.mb.cleaned").write_text("wa c\n")  # a sentence of the test
    done = run(recipe / "run.sh", "--stop-stage", "0", "--data-root", str(official))
    assert f"1 of 192 left out, no words: {names[0]}" in done.stdout
    assert "sentences of the test in the training part: 1 utterances, left out" in done.stdout
    assert not {*names[:2]} & {*texts(recipe / "data/train"), *texts(recipe / "data/dev")}


@pytest.mark.parametrize(
    ("stated", "after"),
    [(8000, b""), (0, b""), (100, b""), (80000, b""), (8000, b"LIST\4\0\0\0abcd"), (8000, b"\1")],
)
def test_a_wav_file_is_read_to_its_end_whatever_length_it_states(
    data: ModuleType, tmp_path: Path, stated: int, after: bytes
) -> None:
    (tmp_path / "a.wav").write_bytes(wav(noise(0), stated, after=after))
    np.testing.assert_array_equal(data.read_samples(tmp_path / "a.wav"), noise(0))


def test_audio_of_another_kind_is_refused(data: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav(noise(0), rate=8000))
    with pytest.raises(
        UserError, match=r"a\.wav: expected one channel, 16 bits at 16000 Hz, got 1, 16 bits at 8000 Hz"
    ):
        data.read_samples(tmp_path / "a.wav")
    (tmp_path / "b.wav").write_bytes(b"version https://git-lfs")
    with pytest.raises(UserError, match=r"b\.wav: not a WAV file"):
        data.read_samples(tmp_path / "b.wav")
    soundfile.write(tmp_path / "c.flac", np.zeros((100, 2)), 16000)
    with pytest.raises(UserError, match=r"c\.flac: expected one channel at 16000 Hz"):
        data.read_samples(tmp_path / "c.flac")
    (tmp_path / "d.opus").write_bytes(b"no sound")
    with pytest.raises(UserError, match=r"d\.opus: cannot be read"):
        data.read_samples(tmp_path / "d.opus")


def test_of_an_archive_only_recordings_and_cleaned_texts_are_taken(
    data: ModuleType, official: Path, tmp_path: Path
) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        archive.add(official, arcname="mboshi-french-parallel-corpus-master")
    packed.seek(0)
    with tarfile.open(fileobj=packed, mode="r|gz") as archive:
        take_out(archive, tmp_path / "out", data.place)
    expected = {p.relative_to(official) for p in official.rglob("*") if p.is_file() and p.suffix != ".mb"}
    assert {p.relative_to(tmp_path / "out") for p in (tmp_path / "out").rglob("*") if p.is_file()} == expected
    assert len(data.read_part(tmp_path / "out", "dev")) == 8


def test_a_table_is_read_as_the_repository_is(data: ModuleType, tmp_path: Path) -> None:
    rows = ["id\tpath\tduration\tspeaker\tmboshi\tfrench", "b\tx/b.flac\t1\tmartial\twa\u0301  adí\tl&apos; eau"]
    (tmp_path / "train.tsv").write_text("\n".join([*rows, "a\tx/a.flac\t1\tabiayi\tngá\toui"]) + "\n")
    (tmp_path / "x").mkdir()
    for name in "ab":
        soundfile.write(tmp_path / "x" / f"{name}.flac", noise(0), 16000)
    first, second = data.read_part(tmp_path, "train")
    assert (first.name, first.mboshi, first.french, first.speaker) == ("a", "ngá", "oui", "abiayi")
    assert (second.mboshi, second.french) == ("w\u00e1 adí", "l' eau")
    np.testing.assert_array_equal(data.read_samples(second.audio), noise(0))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("id\tpath\tspeaker\tmboshi\n", r"train\.tsv:1: no column french"),
        ("id\tpath\tspeaker\tmboshi\tfrench\na\tb\n", r"train\.tsv:2: 2 columns, expected 5"),
        ("id\tpath\tspeaker\tmboshi\tfrench\na\tb.wav\tc\td\te\n", r"b\.wav: no such file; the copy .* is incomplete"),
        ("id\tpath\tspeaker\tmboshi\tfrench\n", r"no utterances in its part train"),
    ],
)
def test_a_faulty_table_is_named(data: ModuleType, tmp_path: Path, table: str, message: str) -> None:
    (tmp_path / "train.tsv").write_text(table)
    with pytest.raises(UserError, match=message):
        data.read_part(tmp_path, "train")


def test_a_folder_without_the_corpus_stops_the_recipe(recipe: Path, tmp_path: Path) -> None:
    done = run(recipe / "run.sh", "--data-root", str(tmp_path))
    assert done.returncode == 1
    assert "holds no copy of the corpus; expected full_corpus_newsplit/train" in done.stderr
    assert not (recipe / "data").exists()


def test_the_real_corpus_gives_the_utterances_of_the_results(data: ModuleType, data_root: Path) -> None:
    corpus = data.find_corpus(str(data_root), Path("nowhere"))
    test, given = data.read_part(corpus, "dev"), data.read_part(corpus, "train")
    train, dev = data.hold_out(given)
    expected = dict(line.split("\t") for line in data.CHECKSUMS.read_text().splitlines())
    assert {name: data.checksum(part) for name, part in (("train", train), ("dev", dev), ("test", test))} == expected
    sentences = [{utterance.mboshi for utterance in part} for part in (train, dev, test)]
    assert not sentences[0] & sentences[1]
    assert not (sentences[0] | sentences[1]) & sentences[2]
    assert len(data.read_samples(test[0].audio)) == pytest.approx(16000 * 2.723, abs=16)  # as its table says
