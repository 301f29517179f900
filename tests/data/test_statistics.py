from __future__ import annotations

import statistics
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from s2s.data.corpus import load_corpus
from s2s.data.statistics import Spread, corpus_statistics, histogram, tables
from s2s.tokenizers.character import CharacterTokenizer


def test_numbers_are_those_of_the_corpus(kaldi: Path, digits) -> None:
    seconds = [float(row["duration"]) for row in digits]
    letters = [len(row["text"]) for row in digits]
    found = corpus_statistics(load_corpus(kaldi).cuts)
    assert (found.utterances, found.with_text) == (24, 24)
    assert found.hours == pytest.approx(sum(seconds) / 3600, rel=1e-3)
    assert found.speakers == len({row["speaker"] for row in digits})
    assert found.duration.median == pytest.approx(statistics.median(seconds), abs=1e-3)
    assert (found.duration.min, found.duration.max) == pytest.approx((min(seconds), max(seconds)), abs=1e-3)
    assert found.words == Spread(1, 1, 1, 1)
    assert found.characters == Spread(3, statistics.median(letters), statistics.fmean(letters), 5)
    assert found.alphabet == len(set("".join(row["text"] for row in digits)))
    assert found.text_lengths == [(n, n, letters.count(n)) for n in (3, 4, 5)]
    assert found.sampling_rates == {8000: 24}
    assert found.tokens is None


def test_tokens_are_counted_with_a_tokenizer_and_shown(kaldi: Path, digits) -> None:
    tokenizer = CharacterTokenizer.train([row["text"] for row in digits])
    found = corpus_statistics(load_corpus(kaldi).cuts, tokenizer)
    lengths = [len(tokenizer.encode(row["text"])) for row in digits]
    assert found.tokens == Spread.of([float(n) for n in lengths])
    console = Console(record=True, width=100)
    console.print(tables(found))
    lines = console.export_text().splitlines()
    shown = next(line.split() for line in lines if line.strip().startswith("tokens ") and "." in line)
    assert shown[1:] == [
        f"{value:.1f}" for value in (min(lengths), statistics.median(lengths), statistics.fmean(lengths), max(lengths))
    ]
    assert max(line.count("█") for line in lines) == 40


def test_a_corpus_without_text_has_statistics_too(folder, digits) -> None:
    found = corpus_statistics(load_corpus(folder(wav_scp=[f"a {digits[0]['path']}"])).cuts)
    assert (found.with_text, found.text_lengths) == (0, [])
    Console(record=True).print(tables(found))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 500), max_size=60), st.integers(1, 12))
def test_a_histogram_counts_every_length_once_in_adjoining_ranges(lengths: list[int], bars: int) -> None:
    found = histogram(lengths, bars)
    assert len(found) <= bars
    assert sum(count for _, _, count in found) == len(lengths)
    for first, last, count in found:
        assert count == sum(first <= length <= last for length in lengths)
    assert all(left[1] + 1 == right[0] for left, right in pairwise(found))
