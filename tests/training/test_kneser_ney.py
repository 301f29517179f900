"""Modified Kneser-Ney against its definition and against KenLM's estimator where that is installed."""

from __future__ import annotations

import math
import shutil
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import toy_memory
from typer.testing import CliRunner

from s2s.cli.main import app
from s2s.decoding.ngram import NgramScorer, load_ngram
from s2s.errors import UserError
from s2s.tokenizers import load_tokenizer, train_tokenizer
from s2s.training.kneser_ney import FALLBACK, KneserNey, count_ngrams, discounts_of, estimate

BOS, EOS, UNK = 2, 3, 1
Gram = tuple[int, ...]


def grams(sentences: Sequence[Sequence[int]], n: int) -> Counter[Gram]:
    marked = [(BOS, *sentence, EOS) for sentence in sentences]
    return Counter(s[i : i + n] for s in marked for i in range(len(s) - n + 1))


class Reference:
    """The definition, a word at a time: Chen & Goodman 1999, section 3.6, with <s> as Heafield et al. 2013 treat it."""

    def __init__(self, sentences: Sequence[Sequence[int]], order: int) -> None:
        counts = {n: grams(sentences, n) for n in range(1, order + 1)}
        self.adjusted: dict[int, dict[Gram, int]] = {order: dict(counts[order])}
        for n in range(1, order):
            left = Counter(longer[1:] for longer in counts[n + 1])
            self.adjusted[n] = {g: counts[n][g] if g[0] == BOS else left[g] for g in counts[n]}
        self.adjusted[1].pop((BOS,), None)
        self.vocabulary = {g[0] for g in counts[1]} - {BOS} | {UNK}
        self.order = order

    def discounts(self, n: int) -> tuple[float, ...]:
        t = [sum(1 for c in self.adjusted[n].values() if c == k) for k in range(5)]
        if not (t[1] and t[2] and t[3]):
            return FALLBACK
        y = t[1] / (t[1] + 2 * t[2])
        found = tuple(k - (k + 1) * y * t[k + 1] / t[k] for k in (1, 2, 3))
        return found if all(0 <= d <= k + 1 for k, d in enumerate(found)) else FALLBACK

    def backoff(self, context: Gram) -> float:
        n = len(context) + 1
        following = [c for g, c in self.adjusted[n].items() if g[:-1] == context]
        steps = (0.0, *self.discounts(n))
        return sum(steps[min(c, 3)] for c in following) / sum(following) if following else 1.0

    def prob(self, context: Gram, word: int) -> float:
        n = len(context) + 1
        lower = 1.0 / len(self.vocabulary) if n == 1 else self.prob(context[1:], word)
        following = sum(c for g, c in self.adjusted[n].items() if g[:-1] == context)
        if not following:
            return lower
        count = self.adjusted[n].get((*context, word), 0)
        return (count - (0.0, *self.discounts(n))[min(count, 3)]) / following + self.backoff(context) * lower


def of(model: KneserNey) -> dict[Gram, tuple[float, float]]:
    """Probability and back-off weight of each n-gram."""
    found: dict[Gram, tuple[float, float]] = {}
    before: list[Gram] = [()]
    for n, order in enumerate(model.orders):
        pairs = zip(order.prefix.tolist(), order.word.tolist(), strict=True)
        before = [(*before[prefix], word) for prefix, word in pairs]
        found |= dict(zip(before, zip(model.probs[n].tolist(), model.backoffs[n].tolist(), strict=True), strict=True))
    return found


sentences_of_words = st.lists(st.lists(st.integers(4, 9), max_size=8), min_size=1, max_size=8)


@given(sentences=sentences_of_words, order=st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_probabilities_and_backoffs_are_those_of_the_definition(sentences: list[list[int]], order: int) -> None:
    reference = Reference(sentences, order)
    found = of(estimate(count_ngrams(sentences, order, BOS, EOS), BOS, UNK, fallback=True))
    assert found.keys() == {g for n in range(1, order + 1) for g in grams(sentences, n)} | {(UNK,)}
    for gram, (prob, backoff) in found.items():
        if gram != (BOS,):
            assert prob == pytest.approx(reference.prob(gram[:-1], gram[-1]), abs=1e-12)
        if len(gram) < order:
            assert backoff == pytest.approx(reference.backoff(gram), abs=1e-12)


@given(sentences=sentences_of_words, order=st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_what_follows_any_context_sums_to_one(sentences: list[list[int]], order: int) -> None:
    found = of(estimate(count_ngrams(sentences, order, BOS, EOS), BOS, UNK, fallback=True))

    def prob(context: Gram, word: int) -> float:
        if (*context, word) in found:
            return found[(*context, word)][0]
        return found.get(context, (0.0, 1.0))[1] * prob(context[1:], word)

    words = [gram[0] for gram in found if len(gram) == 1 and gram != (BOS,)]
    for context in [(), *(gram for gram in found if len(gram) < order and gram[-1] != EOS)]:
        assert sum(prob(context, word) for word in words) == pytest.approx(1.0, abs=1e-9)


def test_an_order_whose_counts_tell_no_discount_is_named() -> None:
    with pytest.raises(UserError, match=r"2-grams: no Kneser-Ney discounts: .* Give more text, a lower order, or"):
        discounts_of(torch.tensor([1, 1, 2, 2]).numpy(), 2)
    assert discounts_of(torch.tensor([1, 1, 2, 2]).numpy(), 2, fallback=True) == FALLBACK
    with pytest.raises(UserError, match="no sentences"):
        count_ngrams([], 2, BOS, EOS)
    with pytest.raises(UserError, match="sentence 2: holds the token of a sentence's begin or end"):
        count_ngrams([[4], [5, EOS]], 2, BOS, EOS)


@pytest.fixture(scope="module")
def sentences(data_root: Path) -> list[str]:
    lines = (data_root / "kerstin-german-cc0/metadata.tsv").read_text(encoding="utf-8").splitlines()
    return [line.split("\t")[3].lower() for line in lines[1:]]


@pytest.fixture(scope="module")
def model(sentences: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tokenizer, text in pieces, and the model of them that the command makes."""
    folder = tmp_path_factory.mktemp("lm")
    train_tokenizer("unigram", sentences, 150).save(folder / "tokenizer")
    (folder / "text").write_text("".join(f"utt-{i} {s}\n" for i, s in enumerate(sentences)), encoding="utf-8")
    command = ["lm", "ngram", "--kaldi", str(folder / "text"), "--tokenizer", str(folder / "tokenizer")]
    done = CliRunner().invoke(app, [*command, "--order", "3", "--out", str(folder / "lm.arpa")])
    assert done.exit_code == 0, done.output
    return folder


def test_the_model_of_real_text_is_read_and_gives_the_same_as_kenlm(model: Path, sentences: list[str]) -> None:
    kenlm = pytest.importorskip("kenlm")
    tokenizer = load_tokenizer(model / "tokenizer")
    theirs = kenlm.Model(str(model / "lm.arpa"))
    scorer = load_ngram(str(model / "lm.arpa"), tokenizer)
    assert isinstance(scorer, NgramScorer)
    for sentence in sentences[:5]:
        tokens = [*tokenizer.encode(sentence), tokenizer.eos_id]
        state = scorer.start(toy_memory([3]), 1)
        total, last = 0.0, tokenizer.bos_id
        for token in tokens:
            total += float(scorer.score_candidates(torch.tensor([last]), torch.tensor([[token]]), state))
            state, last = scorer.select(state, torch.tensor([0])), token
        pieces = " ".join(tokenizer.pieces(tokens[:-1]))
        assert total == pytest.approx(theirs.score(pieces) * math.log(10.0), abs=1e-3)


def test_it_is_what_lmplz_estimates(model: Path, sentences: list[str]) -> None:
    if shutil.which("lmplz") is None:
        pytest.skip("lmplz of KenLM is not installed")
    tokenizer = load_tokenizer(model / "tokenizer")
    text = "".join(" ".join(tokenizer.pieces(tokenizer.encode(s))) + "\n" for s in sentences)
    done = subprocess.run(["lmplz", "-o", "3"], input=text.encode(), capture_output=True, check=True)

    def read(arpa: str) -> dict[str, tuple[float, ...]]:
        fields = [line.split("\t") for line in arpa.splitlines() if "\t" in line]
        return {words: (float(prob), *map(float, rest)) for prob, words, *rest in fields}

    theirs, ours = read(done.stdout.decode()), read((model / "lm.arpa").read_text(encoding="utf-8"))
    assert theirs.keys() == ours.keys()
    for words, numbers in theirs.items():
        assert ours[words] == pytest.approx(numbers, abs=2e-5)


def test_a_text_that_is_too_small_says_what_to_do(model: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("ja\nja nein\n")
    command = ["lm", "ngram", str(tmp_path / "text"), "--tokenizer", str(model / "tokenizer")]
    done = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "lm.arpa")])
    assert isinstance(done.exception, UserError)
    assert "Give more text, a lower order, or --discount-fallback" in str(done.exception)
    assert not (tmp_path / "lm.arpa").exists()
    done = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "lm.arpa"), "--discount-fallback"])
    assert done.exit_code == 0
    assert (tmp_path / "lm.arpa").read_text().endswith("\\end\\\n")
