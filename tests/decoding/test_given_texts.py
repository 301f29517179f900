"""What is said of given texts, against sums taken one token at a time."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import BOS, EOS, toy_memory

from s2s.decoding.given_texts import Judge, label_scores, perplexity, text_log_probs
from s2s.decoding.ngram import load_ngram
from s2s.errors import UserError
from s2s.models.language_model import TransformerLanguageModel
from s2s.models.lstm_language_model import LSTMLanguageModel
from s2s.tokenizers.base import SPECIAL_PIECES
from s2s.tokenizers.character import CharacterTokenizer

TOKENIZER = CharacterTokenizer([*SPECIAL_PIECES, "a", "b", "▁", "c"])
ARPA = """\\data\\
ngram 1=7
ngram 2=4

\\1-grams:
-1.2\t<unk>
-99\t<s>\t-0.5
-0.7\t</s>
-0.6\ta\t-0.3
-0.8\tb\t-0.2
-0.9\t▁\t-0.1
-1.1\tc

\\2-grams:
-0.2\t<s> a
-0.4\ta b
-0.5\tb </s>
-0.3\t▁ c

\\end\\
"""


def n_gram(folder: Path) -> Judge:
    (folder / "lm.arpa").write_text(ARPA, encoding="utf-8")
    return load_ngram(folder / "lm.arpa", TOKENIZER)


def by_hand(pieces: list[str]) -> float:
    """log10 P of a sentence by the file above, back-off written out."""
    alone, weights, pairs = {}, {}, {}
    for line in ARPA.splitlines():
        fields = line.split("\t")
        if len(fields) < 2:
            continue
        words = fields[1].split(" ")
        if len(words) == 2:
            pairs[tuple(words)] = float(fields[0])
        else:
            alone[words[0]], weights[words[0]] = float(fields[0]), float(fields[2]) if len(fields) > 2 else 0.0
    total, last = 0.0, "<s>"
    for piece in [*pieces, "</s>"]:
        total += pairs.get((last, piece), weights[last] + alone[piece])
        last = piece
    return total


def judges(folder: Path, seed: int = 0) -> dict[str, Judge]:
    torch.manual_seed(seed)
    return {
        "transformer": TransformerLanguageModel(8, 16, 1, 2, 16).double().eval(),
        "lstm": LSTMLanguageModel(8, 16, 1).double().eval(),
        "n-gram": n_gram(folder),
    }


def alone(judge: Judge, text: list[int]) -> float:
    """log P of one text: a step at a time of a scorer, a pass of a model."""
    memory = toy_memory([1])
    if isinstance(judge, torch.nn.Module):
        found = judge(memory, torch.tensor([[BOS, *text]]))[0]
        return sum(found[i, label].item() for i, label in enumerate([*text, EOS]))
    state, total = judge.start(memory, 1), 0.0  # type: ignore[union-attr]
    for last, label in zip([BOS, *text], [*text, EOS], strict=True):
        total += judge.score_candidates(torch.tensor([last]), torch.tensor([[label]]), state).item()  # type: ignore[union-attr]
    return total


def test_an_n_gram_gives_a_sentence_what_its_file_says(tmp_path: Path) -> None:
    judge = n_gram(tmp_path)
    for text in ("ab", "", "a c", "cab b"):
        pieces = list(text.replace(" ", "▁"))
        assert alone(judge, TOKENIZER.encode(text)) / math.log(10) == pytest.approx(by_hand(pieces), abs=1e-9)


@given(
    sizes=st.lists(st.integers(0, 8), min_size=2, max_size=6).filter(lambda sizes: len(sizes) % 2 == 0),
    padding=st.sampled_from([0, 5]),
    seed=st.integers(0, 99),
)
@settings(max_examples=10)
def test_whole_texts_have_the_sum_of_their_tokens_whatever_the_padding(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], padding: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    texts = [torch.randint(4, 8, (size,), generator=generator).tolist() for size in sizes]
    target = torch.tensor([text + [padding] * (9 - len(text)) for text in texts])
    memory = toy_memory([3, 2])  # of which each has half of the rows
    for judge in judges(tmp_path_factory.mktemp("lm"), seed).values():
        found = text_log_probs(judge, memory, target, torch.tensor(sizes), BOS, EOS)
        assert found.tolist() == pytest.approx([alone(judge, text) for text in texts], abs=1e-9)
        scores = label_scores(judge, memory, target.clamp(min=1), target.clamp(min=1))
        assert scores.shape == target.shape


def test_perplexity_is_that_of_the_definition_whatever_the_batches(tmp_path: Path) -> None:
    lines = ["ab c", "", "b", "  ", "cabb a a", "ax"]
    texts = [TOKENIZER.encode(line) for line in lines if line.strip()]
    for judge in judges(tmp_path).values():
        total = sum(alone(judge, text) for text in texts)
        for batch_tokens in (1, 12, 4000):
            found = perplexity(judge, TOKENIZER, lines, batch_tokens=batch_tokens)
            assert found.log_prob == pytest.approx(total, abs=1e-9)
            assert (found.sentences, found.empty, found.tokens, found.words, found.unknown) == (4, 2, 15, 7, 1)
            assert found.per_token == pytest.approx(math.exp(-total / 19))
            assert found.per_word == pytest.approx(math.exp(-total / 11))


def test_an_n_gram_has_the_perplexity_that_kenlm_gives_it(tmp_path: Path) -> None:
    kenlm = pytest.importorskip("kenlm")
    n_gram(tmp_path)
    model = kenlm.Model(str(tmp_path / "lm.arpa"))
    lines = ["ab c", "b", "cabb a a", "ax"]
    theirs = sum(model.score(" ".join(TOKENIZER.pieces(TOKENIZER.encode(line)))) for line in lines) * math.log(10)
    assert perplexity(n_gram(tmp_path), TOKENIZER, lines).log_prob == pytest.approx(theirs, rel=1e-5)


def test_a_uniform_model_has_the_perplexity_of_its_vocabulary() -> None:
    model = LSTMLanguageModel(8, 4, 1).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert perplexity(model, TOKENIZER, ["abc", "a"]).per_token == pytest.approx(8.0)


def test_nothing_to_measure_is_named() -> None:
    with pytest.raises(UserError, match=r"no sentences: there is nothing to measure"):
        perplexity(LSTMLanguageModel(8, 4, 1), TOKENIZER, ["", " "])
