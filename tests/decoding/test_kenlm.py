"""The kenlm package and our tensors give the same numbers for the same model."""

from __future__ import annotations

import base64
import itertools
import math
import random
import sys
import zlib
from pathlib import Path
from types import ModuleType

import pytest
import torch
from toy import BLANK, BOS, EOS, toy_memory

from s2s.decoding.kenlm import KenLMScorer
from s2s.decoding.ngram import NgramLM, NgramScorer, load_ngram
from s2s.decoding.scorers import CandidateScorer
from s2s.errors import UserError
from s2s.tokenizers.base import SPECIAL_PIECES
from s2s.tokenizers.character import CharacterTokenizer

TOKENIZER = CharacterTokenizer([*SPECIAL_PIECES, "a", "b", "c", "d"])
V = TOKENIZER.vocab_size

ARPA = """\\data\\
ngram 1=5
ngram 2=3
ngram 3=1

\\1-grams:
-3\t<unk>
-99\t<s>\t-0.5
-1\t</s>
-0.5\ta\t-0.25
-0.75\tb

\\2-grams:
-0.1\t<s> a\t-0.2
-0.3\ta b\t-0.0625
-0.4\tb </s>

\\3-grams:
-0.05\t<s> a b

\\end\\
"""
BINARY = zlib.decompress(  # what `build_binary` of KenLM makes of it
    base64.b85decode(
        "c-qU&O)OBz$yLZGDJihh*U!#KO-##7%}LQq&d=3P&QD2INXswEO)OC;OD!tS%+FIW<zhg9274f}pAks>2Lg}?BUFYNOdhaD7Gp(`Lx?jV$rscq"
        "?zL<y1<MI$XJ5V~F3!%(fE#e-eE(Qm{2-eN$Tru~npFFz`xOg@Du)9g$1*S+I|Ons)ZIWn1CVam2b8x*R?YE=DWhehvGA;!Gwp!#dmD@1eyFXk"
        "X+3-9%-*wSeD-O!nP1p*s96EX-v>1Z1*m;#=lf$jF%PJAFS58zX<oJ+gH16I>jQ~Ih9m|6Qc_W9"
    )
)


@pytest.fixture
def kenlm() -> ModuleType:
    return pytest.importorskip("kenlm", reason="the kenlm package is not installed")


@pytest.fixture
def arpa(tmp_path: Path) -> Path:
    path = tmp_path / "lm.arpa"
    path.write_text(ARPA)
    return path


@pytest.fixture
def binary(tmp_path: Path) -> Path:
    path = tmp_path / "lm.bin"
    path.write_bytes(BINARY)
    return path


def random_arpa(order: int, seed: int) -> str:
    """Every n-gram with its beginning, all but a few with their ends, none above 1: KenLM takes no others."""
    draw = random.Random(seed)
    words = ["<s>", "</s>", *draw.sample(["<unk>", "a", "b", "c", "d"], draw.randint(2, 5))]
    orders = [[(word,) for word in words]]
    for _ in range(order - 1):
        longer = [(*gram, word) for gram in orders[-1] for word in words[1:] if gram[-1] != "</s>"]
        longer = [gram for gram in longer if gram[1:] in orders[-1] or draw.random() < 0.1]
        orders.append(draw.sample(longer, max(1, min(len(longer) * 2 // 3, 60))))
    lines = ["\\data\\", *(f"ngram {n}={len(grams)}" for n, grams in enumerate(orders, start=1))]
    for n, grams in enumerate(orders, start=1):
        lines += ["", f"\\{n}-grams:"]
        for gram in grams:
            backoff = f"\t{-2 * draw.random()}" if n < order and draw.random() < 0.8 else ""
            lines.append(f"{-4 * draw.random()}\t{' '.join(gram)}{backoff}")
    return "\n".join([*lines, "", "\\end\\", ""])


@pytest.mark.parametrize(("order", "seed"), [(n, seed) for n in range(2, 6) for seed in range(4)])
def test_both_scorers_give_the_same_numbers(order: int, seed: int, kenlm: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "lm.arpa"
    path.write_text(random_arpa(order, seed))
    scorers = KenLMScorer(path, TOKENIZER), NgramScorer(NgramLM.from_arpa(path, TOKENIZER))
    states = [scorer.start(toy_memory([3, 3]), 2) for scorer in scorers]
    draw = random.Random(seed)
    tokens = torch.full((4,), BOS)
    for step in range(8):
        candidates = torch.tensor([draw.sample(range(V), 6) for _ in range(4)])
        theirs, ours = (s.score_candidates(tokens, candidates, x) for s, x in zip(scorers, states, strict=True))
        torch.testing.assert_close(theirs, ours, rtol=1e-5, atol=1e-5)
        assert theirs.dtype == ours.dtype
        tokens = torch.tensor([draw.choice([-1, BOS, EOS, *range(1, V), *range(4, V)]) for _ in range(4)])
        if step == 2:  # the first utterance leaves
            states = [
                s.select(x, torch.tensor([3, 3]), torch.tensor([1])) for s, x in zip(scorers, states, strict=True)
            ]
            tokens = tokens[:2]
            states = [s.join(x, s.start(toy_memory([2]), 2)) for s, x in zip(scorers, states, strict=True)]
            tokens = torch.cat((tokens, torch.tensor([BOS, BOS])))
        if step == 5:
            states = [s.select(x, torch.tensor([1, 0, 2, 2])) for s, x in zip(scorers, states, strict=True)]


def test_rows_that_share_a_past_go_separate_ways(kenlm: ModuleType, binary: Path) -> None:
    scorer = KenLMScorer(binary, TOKENIZER)
    a, b = TOKENIZER.encode("ab")
    state = scorer.start(toy_memory([2]), 2)
    scorer.score_candidates(torch.tensor([BOS, BOS]), torch.tensor([[a], [a]]), state)
    state = scorer.select(state, torch.tensor([0, 0]))
    scores = scorer.score_candidates(torch.tensor([a, b]), torch.tensor([[b, BLANK, BOS]] * 2), state)
    expected = [[-0.05, -math.inf, -math.inf], [-0.75, -math.inf, -math.inf]]
    torch.testing.assert_close(scores, math.log(10) * torch.tensor(expected, dtype=torch.float64))
    again = scorer.score_candidates(torch.tensor([-1, -1]), torch.tensor([[b], [b]]), state)
    assert again.equal(scores[:, :1])


def test_a_binary_file_is_loaded_by_what_it_is_and_scores_as_its_arpa(
    kenlm: ModuleType, arpa: Path, binary: Path
) -> None:
    theirs, ours = load_ngram(binary, TOKENIZER), load_ngram(arpa, TOKENIZER)
    assert isinstance(theirs, KenLMScorer)
    assert isinstance(theirs, CandidateScorer)
    assert isinstance(ours, NgramScorer)
    model = kenlm.Model(str(binary))
    for length in range(4):
        for sentence in itertools.product(range(4, V), repeat=length):
            totals = []
            for scorer in (theirs, ours):
                state = scorer.start(toy_memory([2]), 1)
                pairs = itertools.pairwise([BOS, *sentence, EOS])
                steps = [scorer.score_candidates(torch.tensor([x]), torch.tensor([[y]]), state) for x, y in pairs]
                totals.append(sum(step.item() for step in steps))
            text = " ".join(TOKENIZER.pieces(sentence))
            assert totals == pytest.approx([model.score(text) * math.log(10)] * 2, abs=1e-4)


def test_without_the_package_the_error_says_what_helps(
    monkeypatch: pytest.MonkeyPatch, arpa: Path, binary: Path
) -> None:
    monkeypatch.setitem(sys.modules, "kenlm", None)
    with pytest.raises(UserError, match=r"lm\.bin: .*`pip install kenlm`, or give the ARPA file"):
        load_ngram(binary, TOKENIZER)
    assert isinstance(load_ngram(arpa, TOKENIZER), NgramScorer)


def test_a_binary_file_of_other_words_is_refused(kenlm: ModuleType, binary: Path) -> None:
    other = CharacterTokenizer([*SPECIAL_PIECES, "a", "c"])
    with pytest.raises(UserError, match=r"lm\.bin: .* do not match: 1 of 5 words .*\(b\).*encode --pieces"):
        load_ngram(binary, other)


@pytest.mark.parametrize("length", [40, 88, 108, 200, len(BINARY) - 30, len(BINARY) - 1])
def test_a_binary_file_that_is_cut_short_is_refused(length: int, kenlm: ModuleType, binary: Path) -> None:
    binary.write_bytes(BINARY[:length])
    with pytest.raises(UserError, match=r"lm\.bin: the file does not end with its words"):
        load_ngram(binary, TOKENIZER)


def test_what_the_package_refuses_is_told_in_its_words(kenlm: ModuleType, arpa: Path, binary: Path) -> None:
    binary.write_bytes(BINARY.replace(b"format version 5", b"format version 4"))
    with pytest.raises(UserError, match=r"lm\.bin: the kenlm package does not read it: .*version 4"):
        load_ngram(binary, TOKENIZER)
    arpa.write_text("\\data\\\nngram 1=2\n\n\\1-grams:\n-1\t<s>\n-1\t</s>\n\n\\end\\\n")
    with pytest.raises(UserError, match=r"lm\.arpa: the kenlm package does not read it: .*at least a bigram"):
        KenLMScorer(arpa, TOKENIZER)


def test_an_arpa_file_has_the_errors_of_the_other_scorer(kenlm: ModuleType, arpa: Path, tmp_path: Path) -> None:
    arpa.write_text(ARPA.replace("-0.3\ta b", "-0.3\ta"))
    with pytest.raises(UserError, match=r"lm\.arpa:15: '-0\.0625' is not among the 1-grams"):
        KenLMScorer(arpa, TOKENIZER)
    with pytest.raises(UserError, match=r"absent\.bin: cannot read it: No such file"):
        KenLMScorer(tmp_path / "absent.bin", TOKENIZER)
