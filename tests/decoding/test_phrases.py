from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_whisper import SPECIAL, VOCAB_SIZE

from s2s.decoding.phrases import TokenAutomaton, check_tokens, empty_table, read_phrases
from s2s.errors import UserError
from s2s.tokenizers import Tokenizer, train_tokenizer
from s2s.tokenizers.byte_bpe import ByteBPE
from s2s.tokenizers.whisper import WhisperTokenizer


@pytest.fixture(params=["char", "unigram", "bpe"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return train_tokenizer(request.param, ["new york times", "york new"], None if request.param == "char" else 16)


def test_phrases_come_with_their_own_boost_or_the_default(tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "phrases.txt"
    path.write_bytes("\ufeffnew york\t2.5\r\n  times \nyork  new\t-1e0\n".encode())
    assert read_phrases(path, tokenizer, 0.75) == [
        (tokenizer.encode("new york"), 2.5),
        (tokenizer.encode("times"), 0.75),
        (tokenizer.encode("york new"), -1.0),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("new\nyork\tmuch\n", r"phrases\.txt:2: boost 'much' is not a number"),
        ("new\tnan\n", r"phrases\.txt:1: boost 'nan' is not a number"),
        ("new\t\n", r"phrases\.txt:1: boost '' is not a number"),
        ("new\n\nyork\n", r"phrases\.txt:2: expected a phrase, or a phrase, a tab and its boost"),
        ("\t2.0\n", r"phrases\.txt:1: expected a phrase"),
        ("new\t2.0\t3.0\n", r"phrases\.txt:1: expected a phrase"),
        ("new york\ntimes\nnew  york\t2\n", r"phrases\.txt:3: phrase 'new york' is already on line 1"),
        ("new\nnew zork!\n", r"phrases\.txt:2: phrase 'new zork!' has characters that the tokenizer lacks \(! z\)"),
        ("", r"phrases\.txt: no phrases: expected one a line"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(content: str, message: str, tokenizer: Tokenizer, tmp_path: Path) -> None:
    (tmp_path / "phrases.txt").write_text(content)
    with pytest.raises(UserError, match=message):
        read_phrases(tmp_path / "phrases.txt", tokenizer)


def test_a_file_that_is_not_there_is_named(tokenizer: Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.txt: cannot read it"):
        read_phrases(tmp_path / "none.txt", tokenizer)


def test_every_row_goes_its_own_way_and_minus_one_stays() -> None:
    # two states that tokens 2 and 3 switch, in different ways; 0 and 1 lead back
    automaton = TokenAutomaton(torch.tensor([0, 0, 1, 2]), torch.tensor([[0, 1, 0], [0, 1, 0]], dtype=torch.int32))
    state = torch.tensor([0, 1, 1, 0, 1])
    assert automaton.following(state).tolist() == [[0, 1, 0]] * 5
    automaton.advance(torch.tensor([2, 3, -1, -1, 2]), state)
    assert state.tolist() == [1, 0, 1, 0, 1]


def test_a_table_too_large_for_memory_is_refused() -> None:
    with pytest.raises(UserError, match=r"70000 beginnings of 5000 different tokens, a table of 1\.3 GiB"):
        empty_table(70_000, 5_000)


@pytest.mark.parametrize("token", [-1, 8, 3])
def test_a_token_that_no_hypothesis_can_hold_is_refused(token: int) -> None:
    check_tokens([4, 7], 8, 3, "the prefix")
    with pytest.raises(UserError, match=rf"the prefix has token {token}: expected ids from 0 to 7 but eos, 3"):
        check_tokens([4, token], 8, 3, "the prefix")


def test_a_phrase_for_whisper_begins_as_a_word_does(tmp_path: Path) -> None:
    text = {bytes([byte]): byte for byte in range(256)} | {b" york": 256, b"york": 257, b" times": 258}
    special = {name: 259 + i for i, name in enumerate(SPECIAL)}
    tokenizer = WhisperTokenizer(ByteBPE(text), special, VOCAB_SIZE + 3)
    (tmp_path / "phrases.txt").write_text("york times\n  york\t2\n")
    assert read_phrases(tmp_path / "phrases.txt", tokenizer) == [([256, 258], 1.0), ([256], 2.0)]
