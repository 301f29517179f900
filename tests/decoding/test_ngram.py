"""N-gram scores against a dictionary of n-grams that backs off one word at a time."""

from __future__ import annotations

import gzip
import itertools
import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from toy import BLANK, BOS, EOS, UNK, toy_memory

from s2s.decoding.ngram import NgramLM, NgramScorer, load_ngram
from s2s.decoding.scorers import CandidateScorer
from s2s.errors import UserError
from s2s.tokenizers import Tokenizer, train_tokenizer
from s2s.tokenizers.base import SPECIAL_PIECES
from s2s.tokenizers.character import CharacterTokenizer

Model = dict[tuple[str, ...], tuple[float, float]]  # n-gram -> log10 probability, log10 back-off weight

TOKENIZER = CharacterTokenizer([*SPECIAL_PIECES, "a", "b", "c", "d"])
V = TOKENIZER.vocab_size
LN10 = math.log(10.0)


def log10_prob(model: Model, history: tuple[str, ...], word: str) -> float:
    """By the definition of the format; a word that the model lacks is <unk>."""
    history = tuple(w if (w,) in model else "<unk>" for w in history)
    word = word if (word,) in model else "<unk>"
    if (*history, word) in model:
        return model[(*history, word)][0]
    if not history:
        return -100.0  # only <unk> can be without
    return model.get(history, (0.0, 0.0))[1] + log10_prob(model, history[1:], word)


def write(path: Path, model: Model) -> Path:
    order = max(map(len, model))
    by_order = [[gram for gram in model if len(gram) == n] for n in range(1, order + 1)]
    lines = ["\\data\\", *(f"ngram {n}={len(grams)}" for n, grams in enumerate(by_order, start=1))]
    for n, grams in enumerate(by_order, start=1):
        lines += ["", f"\\{n}-grams:"]
        for gram in grams:
            log_prob, backoff = model[gram]
            lines.append(f"{log_prob!r}\t{' '.join(gram)}" + (f"\t{backoff!r}" if backoff else ""))
    path.write_text("\n".join([*lines, "", "\\end\\", ""]), encoding="utf-8")
    return path


def random_model(order: int, seed: int) -> Model:
    """Any n-grams, whether or not their beginnings and ends are there; some lack <unk>, some of the pieces."""
    draw = random.Random(seed)
    words = ["<s>", "</s>", *draw.sample(["<unk>", "a", "b", "c", "d"], draw.randint(1, 5))]
    model = {(word,): (-4 * draw.random(), draw.uniform(-2, 1) if order > 1 else 0.0) for word in words}
    for n in range(2, order + 1):
        grams = list(itertools.product(words, repeat=n))
        for gram in draw.sample(grams, min(len(grams), draw.randint(1, 40))):
            impossible = draw.random() < 0.1
            backoff = draw.choice([0.0, draw.uniform(-2, 1)]) if n < order else 0.0
            model[gram] = (-math.inf if impossible else -4 * draw.random(), backoff)
    return model


def witten_bell(sentences: Iterable[list[str]], vocabulary: Iterable[str], order: int) -> Model:
    """Interpolated estimates (Bell et al. 1990) over the vocabulary, </s> and <unk>."""
    counts: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    for sentence in sentences:
        words = ["<s>", *sentence, "</s>"]
        for i, n in itertools.product(range(1, len(words)), range(order)):
            if n <= i:
                counts[tuple(words[i - n : i])][words[i]] += 1

    def share(history: tuple[str, ...]) -> float:
        """Of the probability that is left to the shorter history."""
        types = len(counts[history])
        return types / (types + counts[history].total())

    words = {*vocabulary, "</s>", "<unk>"}
    probs = {(w,): (1 - share(())) * counts[()][w] / counts[()].total() + share(()) / len(words) for w in words}
    for history in sorted(counts, key=len)[1:]:
        for word, count in counts[history].items():
            own = (1 - share(history)) * count / counts[history].total()
            probs[(*history, word)] = own + share(history) * probs[(*history[1:], word)]
    model = {
        gram: (math.log10(p), math.log10(share(gram)) if counts.get(gram) and len(gram) < order else 0.0)
        for gram, p in probs.items()
    }
    return model | {("<s>",): (-99.0, math.log10(share(("<s>",))) if order > 1 else 0.0)}


def every_token(num_rows: int, vocab_size: int = V) -> Tensor:
    return torch.arange(vocab_size).expand(num_rows, -1)


def expected_scores(model: Model, histories: list[list[int]]) -> Tensor:
    """Of every token (N,V) after the tokens of each row."""
    pieces = TOKENIZER.pieces
    rows = [[LN10 * log10_prob(model, tuple(pieces(h)), *pieces([v])) for v in range(V)] for h in histories]
    scores = torch.tensor(rows, dtype=torch.float64)
    scores[:, [BLANK, BOS]] = -math.inf
    return scores


@given(order=st.integers(1, 4), seed=st.integers(0, 10**6))
@settings(max_examples=40)
def test_scores_are_those_of_backing_off_word_by_word(
    order: int, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    model = random_model(order, seed)
    scorer = NgramScorer(NgramLM.from_arpa(write(tmp_path_factory.mktemp("lm") / "lm.arpa", model), TOKENIZER))
    draw = random.Random(seed)
    state = scorer.start(toy_memory([3, 3]), beam_size=3)
    histories: list[list[int]] = [[] for _ in range(6)]
    tokens = [BOS] * 6
    for _ in range(7):
        for history, token in zip(histories, tokens, strict=True):
            history.extend([token] * (token >= 0))
        scores = scorer.score_candidates(torch.tensor(tokens), every_token(6), state)
        torch.testing.assert_close(scores, expected_scores(model, histories), rtol=1e-12, atol=1e-9)
        few = torch.tensor([[draw.randrange(V) for _ in range(3)] for _ in range(6)])
        again = scorer.score_candidates(torch.full((6,), -1), few, state)
        assert again.equal(scores.gather(1, few))
        tokens = [draw.choice([-1, UNK, BOS, EOS, 4, 5, 6, 7, 4, 5, 6, 7]) for _ in range(6)]


def test_a_sentence_scores_the_sum_of_its_n_grams(tmp_path: Path) -> None:
    model: Model = {
        ("<s>",): (-99.0, -0.5),
        ("</s>",): (-1.0, 0.0),
        ("<unk>",): (-3.0, -0.125),
        ("a",): (-0.5, -0.25),
        ("b",): (-0.75, 0.0),
        ("<s>", "a"): (-0.1, -0.2),
        ("a", "b"): (-0.3, -0.0625),
        ("<s>", "a", "b"): (-0.05, 0.0),
    }
    scorer = NgramScorer(NgramLM.from_arpa(write(tmp_path / "lm.arpa", model), TOKENIZER))
    a, b, d = TOKENIZER.encode("abd")

    def score(*tokens: int) -> float:
        state = scorer.start(toy_memory([2]), 1)
        pairs = itertools.pairwise([BOS, *tokens, EOS])
        return sum(scorer.score_candidates(torch.tensor([x]), torch.tensor([[y]]), state).item() for x, y in pairs)

    assert score(a, b) == pytest.approx(LN10 * (-0.1 - 0.05 - (0.0625 + 1.0)))
    assert score(b) == pytest.approx(LN10 * (-(0.5 + 0.75) - 1.0))
    assert score(a, a) == pytest.approx(LN10 * (-0.1 - (0.2 + 0.25 + 0.5) - (0.25 + 1.0)))
    assert score(d, UNK) == pytest.approx(LN10 * (-(0.5 + 3.0) - (0.125 + 3.0) - (0.125 + 1.0)))


def test_the_state_holds_no_more_than_what_follows_depends_on(tmp_path: Path) -> None:
    model = random_model(3, seed=1) | {(w,): (-1.0, -0.5) for w in ("a", "b", "c")}
    model |= {("a", "b"): (-1.0, 0.0), ("b", "c"): (-1.0, -0.5), ("c", "b"): (-1.0, 0.0), ("c", "b", "a"): (-1.0, 0.0)}
    model = {gram: x for gram, x in model.items() if gram[:2] != ("a", "b") or len(gram) == 2}
    scorer = NgramScorer(NgramLM.from_arpa(write(tmp_path / "lm.arpa", model), TOKENIZER))
    a, b, c = TOKENIZER.encode("abc")

    def after(*tokens: int) -> int:
        state = scorer.start(toy_memory([2]), 1)
        for token in (BOS, *tokens):
            scorer.score_candidates(torch.tensor([token]), every_token(1), state)
        return int(state)

    assert after(b, c) == after(a, b, c) == after(c, a, a, b, c)
    assert after(c) != after(b, c)  # the back-off weight of b c
    assert after(a, b) == after(c, a, b)  # nothing begins with a b
    assert after(c, b) != after(a, b)  # c b a begins with c b


def test_rows_are_selected_joined_and_leave(tmp_path: Path) -> None:
    model = random_model(4, seed=3)
    scorer = NgramScorer(NgramLM.from_arpa(write(tmp_path / "lm.arpa", model), TOKENIZER))
    state = scorer.start(toy_memory([2, 2]), 2)
    histories = [[BOS], [BOS], [BOS], [BOS]]
    scorer.score_candidates(torch.tensor([BOS] * 4), every_token(4), state)
    for tokens in ([4, 5, 6, 7], [5, 5, 4, 6]):
        histories = [[*history, token] for history, token in zip(histories, tokens, strict=True)]
        scorer.score_candidates(torch.tensor(tokens), every_token(4), state)
    state = scorer.select(state, torch.tensor([3, 2]), torch.tensor([1]))
    state = scorer.join(state, scorer.start(toy_memory([2]), 2))
    state = scorer.select(state, torch.tensor([1, 1, 2, 3]))
    histories = [[*histories[2], 4], [*histories[2], 6], [BOS], [BOS]]
    scores = scorer.score_candidates(torch.tensor([4, 6, BOS, BOS]), every_token(4), state)
    torch.testing.assert_close(scores, expected_scores(model, histories), rtol=1e-12, atol=1e-9)


def test_pieces_that_the_model_lacks_are_unk_and_minus_100_without_it(tmp_path: Path) -> None:
    model: Model = {("<s>",): (-99.0, 0.0), ("</s>",): (-0.3, 0.0), ("a",): (-0.3, -0.5), ("a", "a"): (-0.1, 0.0)}
    b = TOKENIZER.encode("b")[0]
    for unk in (None, -2.0):
        if unk is not None:
            model |= {("<unk>",): (unk, 0.0), ("a", "<unk>"): (-0.4, 0.0)}
        scorer = NgramScorer(NgramLM.from_arpa(write(tmp_path / "lm.arpa", model), TOKENIZER))
        state = scorer.start(toy_memory([2]), 1)
        candidates = torch.tensor([[b, UNK, BLANK, BOS]])
        at_first = scorer.score_candidates(torch.tensor([BOS]), candidates, state).tolist()[0]
        after_a = scorer.score_candidates(torch.tensor(TOKENIZER.encode("a")), candidates, state).tolist()[0]
        first, later = (-100.0, -100.5) if unk is None else (-2.0, -0.4)
        assert at_first == pytest.approx([first * LN10] * 2 + [-math.inf] * 2)
        assert after_a == pytest.approx([later * LN10] * 2 + [-math.inf] * 2)


def sentence_scores(scorer: NgramScorer, sentences: list[list[int]], vocab_size: int) -> tuple[float, float]:
    """The sum of all log-probabilities, and by how much the sum of probabilities is off 1 at worst."""
    total, off = 0.0, 0.0
    for sentence in sentences:
        state = scorer.start(toy_memory([2]), 1)
        for token, following in itertools.pairwise([BOS, *sentence, EOS]):
            scores = scorer.score_candidates(torch.tensor([token]), every_token(1, vocab_size), state)[0]
            total += scores[following].item()
            off = max(off, abs(scores.exp().sum().item() - 1.0))
    return total, off


@pytest.mark.parametrize("order", [1, 2, 5])
def test_probabilities_of_a_proper_model_sum_to_one_after_any_tokens(order: int, tmp_path: Path) -> None:
    draw = random.Random(0)
    pieces = TOKENIZER.pieces(range(4, V))
    sentences = [draw.choices(pieces, weights=[8, 4, 2, 1], k=draw.randint(1, 9)) for _ in range(30)]
    path = write(tmp_path / "lm.arpa", witten_bell(sentences, pieces, order))
    scorer = NgramScorer(NgramLM.from_arpa(path, TOKENIZER))
    others = [[draw.randrange(4, V) for _ in range(8)] for _ in range(10)] + [[UNK, 4, UNK, UNK, 5]]
    assert sentence_scores(scorer, others, V)[1] < 1e-9


def real_text(data_root: Path) -> tuple[Tokenizer, list[list[int]], list[list[int]]]:
    with gzip.open(data_root / "multi30k" / "train.en.gz", "rt", encoding="utf-8") as file:
        lines = [line.strip() for line, _ in zip(file, range(620), strict=False)]
    tokenizer = train_tokenizer("bpe", lines, 120)
    encoded = [tokenizer.encode(line) for line in lines]
    return tokenizer, encoded[:600], encoded[600:]


def test_longer_n_grams_predict_real_text_better(data_root: Path, tmp_path: Path) -> None:
    tokenizer, train, held_out = real_text(data_root)
    perplexities = []
    for order in (1, 2, 3):
        model = witten_bell(map(tokenizer.pieces, train), tokenizer.pieces(range(4, 120)), order)
        scorer = NgramScorer(NgramLM.from_arpa(write(tmp_path / "lm.arpa", model), tokenizer))
        total, off = sentence_scores(scorer, held_out, 120)
        perplexities.append(math.exp(-total / sum(len(sentence) + 1 for sentence in held_out)))
        assert off < 1e-9
    assert perplexities[2] < perplexities[1] < perplexities[0] < 120


def test_the_file_says_which_scorer_it_needs(tmp_path: Path) -> None:
    path = write(tmp_path / "lm.arpa", random_model(2, seed=0))
    packed = tmp_path / "packed"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    for file in (path, packed):
        scorer = load_ngram(file, TOKENIZER)
        assert isinstance(scorer, NgramScorer)
        assert isinstance(scorer, CandidateScorer)
        assert scorer.max_gain == 0.0
    path.write_bytes(b"PK\x03\x04 something else \xff\n")
    with pytest.raises(UserError, match=r"lm\.arpa:1: no \\data\\ header: expected an ARPA text file"):
        load_ngram(path, TOKENIZER)
    with pytest.raises(UserError, match=r"absent\.arpa: cannot read it: No such file"):
        load_ngram(tmp_path / "absent.arpa", TOKENIZER)
