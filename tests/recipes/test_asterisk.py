"""The recipe of speech translation on prompts in five languages: how they are divided, and all its stages."""

from __future__ import annotations

import csv
import io
import json
import shutil
import tarfile
from collections import defaultdict
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from recipe_tree import copy_recipe, load_script, run

from s2s.data.corpora import take_out
from s2s.errors import UserError

HEADER = "lang\tid\tpath\tduration\trms\ttext"
SMALL = ["model.encoder.model_dim=16", "model.encoder.num_layers=1", "model.encoder.num_heads=2"]
SMALL += ["model.encoder.feed_forward_dim=16", "model.encoder.front.channels=4", "model.decoder.model_dim=16"]
SMALL += ["model.decoder.num_layers=1", "model.decoder.num_heads=2", "model.decoder.feed_forward_dim=16"]


@pytest.fixture
def data() -> ModuleType:
    return load_script("egs/asterisk/st/local/data.py")


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return copy_recipe("asterisk", tmp_path / "tree", "st")


def some_prompts(data_root: Path, folder: Path, languages: tuple[str, ...], most: int) -> Path:
    """A part of the corpus: short prompts that are there in all the languages."""
    corpus, copy = data_root / "asterisk-core-sounds-5lang", folder / "asterisk-core-sounds-5lang"
    with (corpus / "metadata.tsv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    by_prompt: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in rows:
        if row["lang"] in languages and row["text"].strip() and 0.5 < float(row["duration"]) < 2.5:
            by_prompt[row["id"]].append(row)
    kept = [row for own in by_prompt.values() if len(own) == len(languages) for row in own][: most * len(languages)]
    for row in kept:
        (copy / row["path"]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(corpus / row["path"], copy / row["path"])
    lines = ["\t".join(row.values()) for row in kept]
    lines.append("\t".join(["en", "silent", kept[0]["path"], "1.0", "0.1", ""]))
    (copy / "metadata.tsv").write_text("\n".join([HEADER, *lines]) + "\n", encoding="utf-8")
    return folder


def test_all_stages_run_with_a_cascade_and_what_is_done_is_skipped(
    recipe: Path, data_root: Path, tmp_path: Path
) -> None:
    corpus = some_prompts(data_root, tmp_path / "corpora", ("en", "fr"), 50)
    options = ["--data-root", str(corpus), "--vocab-size", "60", "--tokenizer-kind", "char", "--cascade"]
    options += ["--pairs", "en-en en-fr", "--decode-pairs", "en-en en-fr fr-fr", *SMALL]
    options += ["training.max_epochs=1", "data.num_workers=0", "decoding.beam_size=2", "decoding.max_length=12"]
    shutil.copy(recipe / "conf/mt.yaml", recipe / "conf/full.yaml")
    small = "defaults: [full, _self_]\nmodel:\n  encoder: {model_dim: 16, num_layers: 1}\n  decoder: {num_layers: 1}\n"
    (recipe / "conf/mt.yaml").write_text(small + "training: {max_epochs: 2, keep_last: 1}\n")
    done = run(recipe / "run.sh", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "left out: 1 without text, 0 longer than 30 s" in done.stdout
    assert "not the recordings that RESULTS.md was measured on" in done.stdout  # a part of them
    out = recipe / "exp/run/decode/test"
    for pair in ("en-en", "fr-fr"):
        assert json.loads((out / pair / "wer.json").read_text())["wer"]["rate"] > 0.0
    for pair in ("en-fr", "cascade/en-fr"):
        assert json.loads((out / pair / "bleu.json").read_text())["segments"] > 0
        assert json.loads((out / pair / "chrf.json").read_text())["signature"]
    names = [line.split()[0] for line in (recipe / "data/test-en/text").read_text().splitlines()]
    assert [line.split()[0] for line in (out / "cascade/en-fr/text").read_text().splitlines()] == names
    table = (out / "table.md").read_text()
    assert table in done.stdout
    systems = [tuple(cell.strip() for cell in line.split("|")[1:3]) for line in table.splitlines()[2:] if "|" in line]
    assert ("direct", "en-fr") in systems
    assert ("direct", "fr-fr (zero-shot)") in systems
    assert ("cascade", "en-fr") in systems
    card = (recipe / "exp/run/bundle/README.md").read_text()
    assert "BLEU" in card
    assert "%WER" in card
    again = run(recipe / "run.sh", *options)
    assert again.returncode == 0
    assert again.stdout.count("is done already") == 8


def test_no_prompt_is_in_two_parts_however_it_is_named(data: ModuleType, data_root: Path) -> None:
    corpus = data.find_corpus(str(data_root), Path("nowhere"))
    kept = [r for r in data.read_recordings(corpus) if r.text and data.seconds(r.audio) <= data.LONGEST]
    parts = data.divide(kept)
    expected = dict(line.split("\t") for line in data.CHECKSUMS.read_text().splitlines())
    assert {part: data.checksum(recordings) for part, recordings in parts.items()} == expected
    assert sum(map(len, parts.values())) == len(kept) == 2664
    groups = {"train": parts["train"], "dev": parts["dev"], "test": [r for p in parts if "test" in p for r in parts[p]]}
    for what in (lambda r: r.prompt, lambda r: (r.language, r.text.lower().strip(" ."))):
        train, dev, test = ({what(r) for r in own} for own in groups.values())
        assert not train & dev
        assert not (train | dev) & test
    assert min(len(own) for own in parts.values()) > 40


def test_archives_are_read_as_they_come(data: ModuleType, tmp_path: Path) -> None:
    samples = np.arange(-800, 800, dtype="<i2")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        listed = "; the list\nactivated: Activé: «oui»\ndigits/1: un\nnot-there: rien\nempty:\n".encode("latin-1")
        names = {"core-sounds-fr.txt": listed, "activated.sln16": samples.tobytes(), "digits/1.sln16": b"\0" * 33}
        for name, content in {**names, "empty.sln16": b"", "LICENSE": b"free"}.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    packed.seek(0)
    with tarfile.open(fileobj=packed, mode="r|gz") as archive:
        take_out(archive, tmp_path / "fr", data.place)
    assert not (tmp_path / "fr/LICENSE").exists()
    found = data.read_folder(tmp_path, "fr")
    assert [(r.name, r.text) for r in found] == [
        ("fr-activated", "Activé: «oui»"),
        ("fr-digits-1", "un"),
        ("fr-empty", ""),
    ]
    np.testing.assert_array_equal(data.read_samples(found[0].audio), samples)
    assert len(data.read_samples(found[1].audio)) == 16
    assert data.seconds(found[0].audio) == pytest.approx(0.1)
    with pytest.raises(UserError, match=r"core-sounds-it\.txt: cannot be read"):
        data.read_folder(tmp_path, "it")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("lang\tid\tpath\n", r"metadata\.tsv:1: no column text"),
        ("lang\tid\tpath\ttext\na\tb\n", r"metadata\.tsv:2: 2 columns, expected 4"),
        ("lang\tid\tpath\ttext\nen\tb\tb.opus\tc\n", r"b\.opus: no such file; the copy .* is incomplete"),
    ],
)
def test_a_faulty_copy_is_named(data: ModuleType, tmp_path: Path, table: str, message: str) -> None:
    with pytest.raises(UserError, match=r"holds no copy of the corpus; expected metadata\.tsv"):
        data.find_corpus(str(tmp_path), tmp_path)
    (tmp_path / "metadata.tsv").write_text(table)
    with pytest.raises(UserError, match=message):
        data.read_recordings(data.find_corpus(str(tmp_path), tmp_path))


def test_help_and_wrong_options(recipe: Path) -> None:
    done = run(recipe / "run.sh", "--help")
    assert done.returncode == 0
    for word in ("--pairs", "--decode-pairs", "--cascade", "--init", "--recogniser", "7 bundle", "KEY=VALUE"):
        assert word in done.stdout
    for options, message in {
        ("--pairs", "enfr"): "--pairs enfr: expected source-target, such as en-de",
        ("--decode-pairs", "x"): "--decode-pairs x: expected source-target",
        ("--cascades",): "'--cascades' is neither an option nor KEY=VALUE",
        ("--init",): "--init needs a value",
    }.items():
        done = run(recipe / "run.sh", *options)
        assert done.returncode == 2
        assert message in done.stderr


def test_mboshi_is_translated_by_the_same_stages(data_root: Path, tmp_path: Path) -> None:
    copy_recipe("mboshi", tmp_path / "tree")
    recipe = copy_recipe("mboshi", tmp_path / "tree", "st")
    corpus, copy = data_root / "mboshi-french", tmp_path / "corpora/mboshi-french"
    for part, count in (("train", 60), ("dev", 6)):
        header, *rows = (corpus / f"{part}.tsv").read_text(encoding="utf-8").splitlines()
        kept = [row for row in rows if float(row.split("\t")[2]) < 3][:count]
        for row in kept:
            (copy / row.split("\t")[1]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(corpus / row.split("\t")[1], copy / row.split("\t")[1])
        (copy / f"{part}.tsv").write_text("\n".join([header, *kept]) + "\n", encoding="utf-8")
    options = ["--data-root", str(copy.parent), "--pairs", "mb-fr", "--tokenizer-kind", "char", "--vocab-size", "80"]
    options += [*SMALL, "training.max_epochs=1", "data.num_workers=0", "data.max_batch_seconds=60", "--metrics", "bleu"]
    done = run(recipe / "run.sh", *options, "decoding.beam_size=2", "decoding.max_length=12")
    assert done.returncode == 0, done.stdout + done.stderr
    out = recipe / "exp/run/decode/test/mb-fr"
    assert json.loads((out / "bleu.json").read_text())["segments"] == 6
    assert "| mb-fr |" in (out.parent / "table.md").read_text()
    done = run(
        recipe / "run.sh", *options, "--stage", "6", "--stop-stage", "6", "--cascade", "--force", "--exp", "exp/run"
    )
    assert done.returncode == 1
    assert "nothing has recognised mb; learn mb-mb too (--pairs), or give --recogniser" in done.stderr


def test_letters_and_phonemes_are_units_of_the_same_words(data_root: Path, tmp_path: Path) -> None:
    copy_recipe("asterisk", tmp_path / "tree", "st")
    recipe = copy_recipe("asterisk", tmp_path / "tree", "asr")
    corpus = some_prompts(data_root, tmp_path / "corpora", ("en",), 60)
    (corpus / "cmudict").symlink_to(data_root / "cmudict")
    options = ["--data-root", str(corpus), "--decodings", "ctc_greedy", *SMALL, "training.max_epochs=1"]
    options += ["data.num_workers=0"]
    for name, more in (("letters", ["--stop-stage", "1"]), ("phonemes", ["--tokenizer-kind", "lexicon"])):
        own = ["--data", f"data/{name}", "--exp", f"exp/{name}"]
        done = run(recipe / "run.sh", *options, *own, *more)
        assert done.returncode == 0, done.stdout + done.stderr
    assert (recipe / "exp/phonemes/decode/test-en/ctc_greedy/score.txt").read_text().startswith("%WER")
    assert "lexicon tokenizer" in (recipe / "exp/phonemes/bundle/README.md").read_text()
    texts = [(recipe / f"data/{name}/train/text").read_text() for name in ("letters", "phonemes")]
    assert texts[0] == texts[1] == texts[0].lower()
    pieces = (recipe / "data/phonemes/tokenizer/tokens.txt").read_text().split()
    assert {"AH", "T"} <= set(pieces)
    assert not any(piece[-1] in "012" for piece in pieces if not piece.startswith("="))
