from __future__ import annotations

import gzip
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from s2s.tokenizers import load_tokenizer, normalise
from s2s.tokenizers.load import KINDS

Cli = Callable[..., tuple[int, str, str]]
TEXT = "the night of the forests\n\nthe hand of the night\n"


@pytest.fixture
def model(tmp_path: Path, s2s_cli: Cli) -> Path:
    """A character tokenizer of TEXT."""
    assert s2s_cli("tokenizer", "train", "--kind", "char", "--out", tmp_path / "model", "-", stdin=TEXT)[0] == 0
    return tmp_path / "model"


@pytest.mark.parametrize("kind", KINDS)
def test_captions_come_back_through_the_three_commands(
    kind: str, data_root: Path, tmp_path: Path, s2s_cli: Cli
) -> None:
    with gzip.open(data_root / "multi30k/val.de.gz", "rt", encoding="utf-8") as stream:
        text = "".join(next(stream) for _ in range(300))
    (tmp_path / "de").write_text(text, encoding="utf-8")
    out = tmp_path / "bundle" / "tokenizer"
    size = 3000 if kind == "word" else 300
    code, _, err = s2s_cli("tokenizer", "train", "--kind", kind, "--vocab-size", size, "--out", out, tmp_path / "de")
    assert (code, load_tokenizer(out).kind) == (0, kind), err
    assert f"{kind} tokenizer, {load_tokenizer(out).vocab_size} pieces" in err
    ids = s2s_cli("tokenizer", "encode", "--model", out, tmp_path / "de")[1]
    assert s2s_cli("tokenizer", "encode", "--model", out, stdin=text)[1] == ids
    decoded = s2s_cli("tokenizer", "decode", "--model", out, stdin=ids)
    assert decoded == (0, "".join(f"{normalise(line)}\n" for line in text.splitlines()), "")


def test_every_line_gives_a_line(model: Path, s2s_cli: Cli) -> None:
    code, out, _ = s2s_cli("tokenizer", "encode", "--model", model, "--pieces", stdin="\nthe to\n\nx")
    assert (code, out) == (0, "\nt h e ▁ t o\n\n<unk>\n")
    assert s2s_cli("tokenizer", "decode", "--model", model, stdin="\n0 2 3\n") == (0, "\n\n", "")


def test_kaldi_ids_are_not_learned(tmp_path: Path, s2s_cli: Cli) -> None:
    (tmp_path / "text").write_text("XYZ-1 ab  a\nXYZ-2\nXYZ-3 c\n")
    (tmp_path / "more").write_text("XYZ-4 d\n")
    arguments = ("--kind", "char", "--kaldi", "--out", tmp_path / "model", tmp_path / "text", tmp_path / "more")
    assert s2s_cli("tokenizer", "train", *arguments)[0] == 0
    tokenizer = load_tokenizer(tmp_path / "model")
    assert tokenizer.pieces(range(4, tokenizer.vocab_size)) == ["a", "b", "c", "d", "▁"]


@pytest.mark.parametrize(
    ("arguments", "stdin", "message"),
    [
        (("--kind", "char"), "\n \n", "no text to train a tokenizer on: every line is empty"),
        (("--kind", "bpee", "--vocab-size", "30"), TEXT, "unknown tokenizer kind 'bpee'"),
        (("--kind", "unigram"), TEXT, "a unigram tokenizer needs a vocab_size"),
        (("--kind", "bpe", "--vocab-size", "5000"), TEXT, "vocab_size 5000 is too large for this text: the largest"),
        (("--kind", "bpe", "--vocab-size", "5"), TEXT, "vocab_size 5 is too small for the characters of this text"),
        (("--kind", "char"), b"a\n\xff\n", "standard input:2: not UTF-8"),
        (("--kind", "char", "no-such-file"), "", "no-such-file: cannot read it: No such file"),
    ],
)
def test_training_mistakes_are_one_line_and_write_nothing(
    arguments: tuple[str, ...], stdin: str | bytes, message: str, tmp_path: Path, s2s_cli: Cli
) -> None:
    code, _, err = s2s_cli("tokenizer", "train", *arguments, "--out", tmp_path / "model", "-", stdin=stdin)
    assert (code, err.count("\n")) == (1, 1)
    assert err.startswith("s2s: error: ")
    assert message in err
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ("4 5\n4 x\n", "ids:2: 'x' is not an id: expected whole numbers"),
        ("4\n\n-1\n", "ids:3: '-1' is not an id"),
        ("4 ²\n", "ids:1: '²' is not an id"),
        ("4\n9999\n", "ids:2: id 9999 is not in the vocabulary: expected 0 to"),
    ],
)
def test_a_bad_id_is_named_with_its_line(ids: str, message: str, model: Path, tmp_path: Path, s2s_cli: Cli) -> None:
    (tmp_path / "ids").write_text(ids, encoding="utf-8")
    code, _, err = s2s_cli("tokenizer", "decode", "--model", model, tmp_path / "ids")
    assert (code, err.count("\n")) == (1, 1)
    assert message in err


def test_a_folder_without_a_tokenizer_is_named(tmp_path: Path, s2s_cli: Cli) -> None:
    code, _, err = s2s_cli("tokenizer", "encode", "--model", tmp_path, stdin="a\n")
    assert code == 1
    assert "expected a folder that `s2s tokenizer train` wrote" in err


def test_help_is_quick_and_imports_no_library() -> None:
    code = """if True:
        import sys
        from s2s.cli.main import app
        sys.argv = ["s2s", "tokenizer", "train", "--help"]
        try:
            app()
        finally:
            print({"torch", "sentencepiece", "jiwer", "lhotse"} & set(sys.modules), file=sys.stderr)
    """
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--vocab-size" in result.stdout
    assert result.stderr == "set()\n"
