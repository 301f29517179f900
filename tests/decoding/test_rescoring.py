"""Rescoring against its definition, computed one hypothesis at a time."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import BOS, EOS, toy_memory, toy_model

from s2s.decoding.ctc import CTCGreedySearch
from s2s.decoding.ctc_beam import CTCPrefixBeamSearch
from s2s.decoding.hypothesis import Hypothesis, Search, UtteranceError
from s2s.decoding.rescoring import Rescorer, RescoringSearch
from s2s.errors import UserError
from s2s.models.language_model import TransformerLanguageModel
from s2s.models.memory import Decoder, Memory
from s2s.models.transformer_decoder import TransformerDecoder

WEIGHTS = {"attention": 0.7, "reverse": 0.3, "lm": -0.4}
FIRST_WEIGHT, LENGTH_BONUS = 0.6, 0.25


@dataclass
class Listed:
    """A first search that finds what it was told."""

    lists: list[list[Hypothesis]]

    def __call__(self, memory: Memory) -> list[list[Hypothesis]]:
        return self.lists


def listed(counts: list[int], seed: int) -> Listed:
    """As many random hypotheses an utterance, best first, of 0 to 5 tokens."""
    numbers = random.Random(seed)
    lists = []
    for count in counts:
        scores = sorted((-10 * numbers.random() for _ in range(count)), reverse=True)
        texts = [[numbers.choice([1, 4, 5, 6]) for _ in range(numbers.randrange(6))] for _ in range(count)]
        lists.append(
            [
                Hypothesis(t, s, {"ctc": s}, [(i, i + 1) for i in range(len(t))])
                for t, s in zip(texts, scores, strict=True)
            ]
        )
    return Listed(lists)


@cache
def decoders(seed: int = 0) -> dict[str, Decoder]:
    torch.manual_seed(seed)
    left, right = (TransformerDecoder(7, 16, 16, 2, 2, 32).double().eval() for _ in range(2))
    lm = TransformerLanguageModel(7, 16, 2, 2, 32).double().eval()
    for model in (left, right, lm):
        torch.nn.init.normal_(model.out.weight)  # peaked enough for hypotheses to differ clearly
    return {"attention": left, "reverse": right, "lm": lm}


def rescoring(first: Search, seed: int = 0, nbest: int = 20) -> RescoringSearch:
    rescorers = {name: Rescorer(d, WEIGHTS[name], reverse=name == "reverse") for name, d in decoders(seed).items()}
    return RescoringSearch(first, rescorers, BOS, EOS, FIRST_WEIGHT, LENGTH_BONUS, nbest)


def true_parts(memory: Memory, b: int, tokens: list[int], seed: int) -> dict[str, float]:
    """log P of one hypothesis, teacher-forced alone."""
    parts = {}
    for name, decoder in decoders(seed).items():
        text = tokens[::-1] if name == "reverse" else tokens
        log_probs = decoder(memory.rows(b, b + 1), torch.tensor([[BOS, *text]]))[0]
        parts[name] = sum(log_probs[i, token].item() for i, token in enumerate([*text, EOS]))
    return parts


def true_score(hypothesis: Hypothesis, parts: dict[str, float]) -> float:
    own = FIRST_WEIGHT * hypothesis.score + LENGTH_BONUS * len(hypothesis.tokens)
    return own + sum(WEIGHTS[name] * part for name, part in parts.items())


@given(batch=st.lists(st.tuples(st.integers(1, 6), st.integers(0, 5)), min_size=1, max_size=4), seed=st.integers(0, 99))
@settings(max_examples=15)
def test_every_score_is_the_definition_and_the_order_that_of_the_scores(
    batch: list[tuple[int, int]], seed: int
) -> None:
    memory = toy_memory([length for length, _ in batch], seed)
    first = listed([count for _, count in batch], seed)
    for b, found in enumerate(rescoring(first, seed)(memory)):
        expected = []
        for hypothesis in first.lists[b]:
            parts = true_parts(memory, b, hypothesis.tokens, seed)
            expected.append((true_score(hypothesis, parts), hypothesis, parts))
        expected.sort(key=lambda triple: -triple[0])
        assert len(found) == len(expected)
        for ours, (score, hypothesis, parts) in zip(found, expected, strict=True):
            assert ours.tokens == hypothesis.tokens
            assert ours.frames == hypothesis.frames
            assert ours.score == pytest.approx(score, abs=1e-8)
            assert ours.scores == pytest.approx({**hypothesis.scores, **parts}, abs=1e-8)


@pytest.mark.parametrize("seed", range(5))
def test_after_a_ctc_prefix_beam_the_best_is_the_best_of_its_list(seed: int) -> None:
    model, memory = toy_model(7, seed), toy_memory([8, 1, 5], seed)
    first = CTCPrefixBeamSearch(model.ctc, BOS, EOS, beam_size=8, nbest=8)
    lists = first(memory)
    assert len({len(found) for found in lists}) > 1  # one frame has fewer than 8 hypotheses
    best = rescoring(first, seed, nbest=1)(memory)
    for b, found in enumerate(lists):
        scored = {tuple(h.tokens): true_score(h, true_parts(memory, b, h.tokens, seed)) for h in found}
        assert [tuple(h.tokens) for h in best[b]] == [max(scored, key=lambda tokens: scored[tokens])]
        assert best[b][0].score == pytest.approx(max(scored.values()), abs=1e-8)


@given(lengths=st.lists(st.integers(1, 9), min_size=2, max_size=5), seed=st.integers(0, 99))
@settings(max_examples=10)
def test_an_utterance_is_rescored_the_same_alone_and_in_any_batch(lengths: list[int], seed: int) -> None:
    model, memory = toy_model(7, seed), toy_memory(lengths, seed)
    search = rescoring(CTCPrefixBeamSearch(model.ctc, BOS, EOS, beam_size=4, nbest=4), seed, nbest=4)
    for b, found in enumerate(search(memory)):
        alone = search(memory.rows(b, b + 1))[0]
        assert [h.tokens for h in found] == [h.tokens for h in alone]
        assert [h.score for h in found] == pytest.approx([h.score for h in alone], abs=1e-8)


def test_hypotheses_may_all_be_empty_or_missing() -> None:
    memory = toy_memory([4, 2, 3])
    found = rescoring(Listed([[Hypothesis([], -1.0)], [], [Hypothesis([], -2.0)]]))(memory)
    assert [len(hypotheses) for hypotheses in found] == [1, 0, 1]
    expected = true_score(Hypothesis([], -2.0), true_parts(memory, 2, [], 0))
    assert found[2][0].score == pytest.approx(expected, abs=1e-8)
    assert rescoring(Listed([[], [], []]))(memory) == [[], [], []]


def test_of_equals_the_first_stays_first() -> None:
    same = [Hypothesis([4, 5], -1.0, {"which": float(i)}) for i in range(6)]
    found = rescoring(Listed([same]), nbest=4)(toy_memory([4]))[0]
    assert [hypothesis.scores["which"] for hypothesis in found] == [0, 1, 2, 3]


def test_a_decoder_reads_all_hypotheses_in_one_call_and_none_without_a_weight() -> None:
    calls = []

    class Counted(TransformerDecoder):
        def forward(self, memory: Memory, tokens: torch.Tensor) -> torch.Tensor:
            calls.append((len(memory.lengths), len(tokens)))
            return super().forward(memory, tokens)

    used, unused = (Counted(7, 16, 16, 1, 2, 16).double().eval() for _ in range(2))
    rescorers = {"used": Rescorer(used, 1.0), "unused": Rescorer(unused, 0.0)}
    found = RescoringSearch(listed([3, 1], 0), rescorers, BOS, EOS)(toy_memory([5, 3]))
    assert calls == [(2, 6)]
    assert list(found[0][0].scores) == ["ctc", "used"]


def test_a_model_that_gives_no_number_is_named_with_its_utterance() -> None:
    memory = toy_memory([5, 5])
    memory.states[1] = float("nan")
    with pytest.raises(UtteranceError, match="utterance 2 of the batch: the model's output is not a number"):
        rescoring(listed([2, 2], 0))(memory)


def test_mistakes_are_refused() -> None:
    first, decoder = CTCGreedySearch(toy_model().ctc), decoders()["attention"]
    with pytest.raises(UserError, match="nbest=0: expected at least 1"):
        RescoringSearch(first, {"attention": Rescorer(decoder, 1.0)}, BOS, EOS, nbest=0)
    with pytest.raises(UserError, match="at least one decoder or language model whose weight is not 0"):
        RescoringSearch(first, {"attention": Rescorer(decoder, 0.0)}, BOS, EOS)
    with pytest.raises(UserError, match="the first search has a score named 'ctc' too"):
        RescoringSearch(first, {"ctc": Rescorer(decoder, 1.0)}, BOS, EOS)(toy_memory([4]))
