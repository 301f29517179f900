"""Where words begin, of every kind of tokenizer, and a search whose prefixes end with a whole word."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import BLANK, BOS, EOS, toy_memory, toy_model
from toy_whisper import toy_whisper_bundle

from s2s.decoding.beam import Beam
from s2s.decoding.engine import LabelSearch
from s2s.decoding.scorers import DecoderScorer
from s2s.decoding.streaming.words import WordStart, whole_words, word_starts
from s2s.tokenizers.base import Tokenizer
from s2s.tokenizers.load import train_tokenizer
from s2s.tokenizers.whisper import WhisperTokenizer

TEXT = "the brown cat sat on the brown mat and the cats ran"


@pytest.mark.parametrize("kind", ["char", "unigram", "bpe"])
def test_words_are_those_between_spaces(kind: str) -> None:
    tokenizer = train_tokenizer(kind, [TEXT] * 20, None if kind == "char" else 22)
    tokens = tokenizer.encode(TEXT)
    starts = word_starts(tokenizer)[tokens].tolist()
    cuts = [i for i, begins in enumerate(starts) if begins and i] + [len(tokens)]
    words = [tokenizer.decode(tokens[:cut]).split() for cut in cuts]
    assert words == [TEXT.split()[:n] for n in range(1, len(TEXT.split()) + 1)]


def test_words_of_whisper_begin_with_a_space() -> None:
    tokenizer: Tokenizer = toy_whisper_bundle().tokenizer
    assert isinstance(tokenizer, WhisperTokenizer)
    starts = word_starts(tokenizer)
    assert starts.nonzero().flatten().tolist() == tokenizer.encode(" ")  # a token is a byte here


def test_without_spaces_characters_are_whole() -> None:
    tokenizer: Tokenizer = toy_whisper_bundle().tokenizer
    starts, text = word_starts(tokenizer, spaces=False), "aé客観🙂"
    tokens = tokenizer.encode(text)
    cuts = [i for i, token in enumerate(tokens) if starts[token] and i] + [len(tokens)]
    assert [tokenizer.decode(tokens[:cut]) for cut in cuts] == [text[:n] for n in range(1, len(text) + 1)]


@given(begins=st.lists(st.booleans(), max_size=9), count=st.integers(0, 9))
def test_no_more_than_whole_words_are_left(begins: list[bool], count: int) -> None:
    count = min(count, len(begins))
    ends = [n for n in range(count + 1) if n in (0, len(begins)) or begins[n]]
    assert whole_words(count, begins) == max(ends)


@given(
    prefixes=st.lists(st.lists(st.sampled_from([4, 5, 6]), max_size=3), min_size=1, max_size=3),
    starts=st.lists(st.booleans(), min_size=8, max_size=8),
    seed=st.integers(0, 99),
)
@settings(max_examples=15)
def test_what_follows_a_prefix_begins_a_word_and_after_that_anything_may_come(
    prefixes: list[list[int]], starts: list[bool], seed: int
) -> None:
    model = toy_model(8, seed)
    search = LabelSearch(
        {"attention": (DecoderScorer(model.decoder), 1.0)}, Beam(4), 8, BOS, EOS, (BLANK, BOS), nbest=4
    ).constrained("words", WordStart(torch.tensor(starts), EOS))
    found = search(toy_memory([7] * len(prefixes), seed), prefixes)
    for prefix, hypotheses in zip(prefixes, found, strict=True):
        rests = [hypothesis.tokens[len(prefix) :] for hypothesis in hypotheses]
        assert all(starts[rest[0]] for rest in rests if rest and prefix)
        assert all(hypothesis.scores["words"] == 0.0 for hypothesis in hypotheses)


def test_a_search_under_a_constraint_is_another_one() -> None:
    model, memory = toy_model(8, seed=1), toy_memory([7])
    search = LabelSearch({"attention": (DecoderScorer(model.decoder), 1.0)}, Beam(2), 8, BOS, EOS, (BLANK, BOS))
    before = search(memory, [[4]])
    none = search.constrained("words", WordStart(torch.zeros(8, dtype=torch.bool), EOS))
    assert none(memory, [[4]])[0][0].tokens == [4]
    assert search(memory, [[4]]) == before
    assert before[0][0].tokens != [4]
    plain, constrained = search(memory)[0][0], none(memory)[0][0]  # without a prefix anything may come
    assert (plain.tokens, plain.score) == (constrained.tokens, constrained.score)
