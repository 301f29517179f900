from __future__ import annotations

import csv
import gzip
import subprocess
import sys
from pathlib import Path

import pytest
import sentencepiece

from s2s.errors import UserError
from s2s.tokenizers import load_tokenizer, normalise, train_tokenizer
from s2s.tokenizers.load import KINDS

TEXT = ["the night of the forests", "the hand of the night"] * 3


def gzip_lines(path: Path, count: int) -> list[str]:
    with gzip.open(path, "rt", encoding="utf-8", newline="\n") as stream:
        return [next(stream) for _ in range(count)]


def real_text(root: Path, name: str) -> list[str]:
    if name == "kerstin":
        with open(root / "kerstin-german-cc0/metadata.tsv", encoding="utf-8", newline="") as stream:
            return [row["text"] for row in csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)]
    return gzip_lines(root / name, 500)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "name", ["multi30k/val.fr.gz", "multi30k/val.cs.gz", "small_parallel_enja/dev.ja.gz", "kerstin"]
)
def test_real_text_comes_back_from_a_saved_tokenizer(kind: str, name: str, data_root: Path, tmp_path: Path) -> None:
    lines = real_text(data_root, name)
    tokenizer = train_tokenizer(kind, lines, None if kind == "word" else 830)
    tokenizer.save(tmp_path)
    again = load_tokenizer(tmp_path)
    assert (again.kind, again.vocab_size) == (kind, tokenizer.vocab_size)
    for line in lines:
        ids = again.encode(line)
        assert ids == tokenizer.encode(line)
        assert 4 <= min(ids) <= max(ids) < again.vocab_size
        assert again.decode(ids) == normalise(line)
        assert "".join(again.pieces(ids)).replace("▁", " ").strip() == normalise(line)


def test_unknown_kinds_are_named_with_the_nearest() -> None:
    with pytest.raises(
        UserError, match=r"unknown tokenizer kind 'unigramm': expected char, .* Did you mean 'unigram'\?"
    ):
        train_tokenizer("unigramm", TEXT, 20)


def test_settings_that_a_kind_does_not_have_are_errors() -> None:
    with pytest.raises(UserError, match="a bpe tokenizer needs a vocab_size"):
        train_tokenizer("bpe", TEXT)
    with pytest.raises(UserError, match="limit a char tokenizer with vocab_size"):
        train_tokenizer("char", TEXT, character_coverage=0.9995)


def test_character_pieces_are_a_plain_list(tmp_path: Path) -> None:
    train_tokenizer("char", ["ab a"]).save(tmp_path)
    assert (tmp_path / "tokens.txt").read_text(encoding="utf-8") == "<blank>\n<unk>\n<s>\n</s>\na\nb\n▁\n"


@pytest.mark.parametrize("kind", KINDS)
def test_saving_keeps_the_other_files_of_the_folder(kind: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    train_tokenizer("char", ["xyz"]).save(tmp_path)
    tokenizer = train_tokenizer(kind, TEXT, 18)
    tokenizer.save(tmp_path)
    assert load_tokenizer(tmp_path).encode(TEXT[0]) == tokenizer.encode(TEXT[0])
    assert (tmp_path / "model.safetensors").read_bytes() == b"weights"
    assert not [path for path in tmp_path.iterdir() if path.name.endswith((".part", ".old"))]


def test_a_folder_without_a_tokenizer_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"tokenizer\.json: cannot read it .*: expected a folder that `s2s tokenizer train`"
    ):
        load_tokenizer(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write the tokenizer here"):
        train_tokenizer("char", TEXT).save(tmp_path / "file")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"kind": "char"}', b"\xff"])
def test_a_corrupt_description_is_an_error(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(UserError, match=r"tokenizer\.json: expected \{\"kind\""):
        load_tokenizer(tmp_path)


def test_an_unknown_kind_in_the_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text('{"kind": "bpf", "vocab_size": 9}')
    with pytest.raises(UserError, match=r"tokenizer\.json: unknown tokenizer kind 'bpf'.*'bpe'"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read the pieces"),
        (b"\xff\n", "not a list of characters"),
        (b"", "the first pieces must be"),
        (b"<blank>\n<unk>\n<s>\n</s>\na\nbc\n", "piece 5 must be one character, not 'bc'"),
        (b"<blank>\n<unk>\n<s>\n</s>\na\nb\na\n", "piece 'a' is there twice"),
        (b"<blank>\n<unk>\n<s>\n</s>\na\n", "tokenizer.json says 7 pieces, the model file has 5"),
    ],
)
def test_corrupt_characters_are_an_error(content: bytes | None, message: str, tmp_path: Path) -> None:
    train_tokenizer("char", ["abc"]).save(tmp_path)
    (tmp_path / "tokens.txt").unlink()
    if content is not None:
        (tmp_path / "tokens.txt").write_bytes(content)
    with pytest.raises(UserError, match=message):
        load_tokenizer(tmp_path)


def test_a_corrupt_or_foreign_model_is_an_error(tmp_path: Path) -> None:
    train_tokenizer("bpe", TEXT, 20).save(tmp_path)
    model = tmp_path / "tokenizer.model"
    whole = model.read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"not a model"):
        model.write_bytes(content)
        with pytest.raises(UserError, match=r"not a sentencepiece model|says 20 pieces"):
            load_tokenizer(tmp_path)
    with open(model, "wb") as stream:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(TEXT), model_writer=stream, vocab_size=16, minloglevel=2
        )
    with pytest.raises(UserError, match=r"its first pieces are <unk> <s> </s> .*, not <blank> <unk>"):
        load_tokenizer(tmp_path)
    model.unlink()
    with pytest.raises(UserError, match="cannot read the model"):
        load_tokenizer(tmp_path)


def test_the_light_rooms_do_not_import_torch() -> None:
    code = "import sys, s2s.tokenizers, s2s.scoring.report, s2s.scoring.transcripts; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
