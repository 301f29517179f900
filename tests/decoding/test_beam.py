"""Beam search against enumeration of every hypothesis, and the same answer in every batch."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import BLANK, BOS, EOS, toy_memory, toy_model

from s2s.decoding.beam import Beam
from s2s.decoding.ctc_prefix import CTCPrefixScorer
from s2s.decoding.engine import LabelSearch
from s2s.decoding.limits import Limits
from s2s.decoding.scorers import DecoderScorer, LengthBonus
from s2s.errors import UserError
from s2s.models.hybrid import HybridModel
from s2s.models.memory import Memory


def joint(
    model: HybridModel,
    ctc_weight: float = 0.3,
    bonus: float = 0.0,
    beam_size: int = 10,
    policy: Beam | None = None,
    **options: object,
) -> LabelSearch:
    return LabelSearch(
        {
            "attention": (DecoderScorer(model.decoder), 1 - ctc_weight),
            "ctc": (CTCPrefixScorer(model.ctc, BOS, EOS), ctc_weight),
            "length": (LengthBonus(model.vocab_size, EOS), bonus),
        },
        policy or Beam(beam_size),
        model.vocab_size,
        BOS,
        EOS,
        (BLANK, BOS),
        **options,  # type: ignore[arg-type]
    )


def true_scores(model: HybridModel, memory: Memory, b: int, tokens: tuple[int, ...]) -> dict[str, float]:
    """The score of a whole hypothesis by definition: teacher forcing, and torch's own CTC loss."""
    length = memory.lengths[b : b + 1]
    alone = Memory(memory.states[b : b + 1, : int(length)], length)
    log_probs = model.decoder(alone, torch.tensor([[BOS, *tokens]]))[0]
    attention = sum(log_probs[i, token].item() for i, token in enumerate((*tokens, EOS)))
    ctc = -torch.nn.functional.ctc_loss(
        model.ctc(alone)[0],
        torch.tensor(tokens, dtype=torch.long),
        length[0],
        torch.tensor(len(tokens)),
        reduction="sum",
    ).item()
    return {"attention": attention, "ctc": ctc, "length": float(len(tokens))}


@given(
    lengths=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    ctc_weight=st.sampled_from([0.0, 0.3, 0.7]),
    bonus=st.sampled_from([0.0, 0.5, 2.0]),
    seed=st.integers(0, 99),
)
@settings(max_examples=12)
def test_a_beam_as_wide_as_the_space_finds_the_best_hypotheses_with_their_true_scores(
    lengths: list[int], ctc_weight: float, bonus: float, seed: int
) -> None:
    model, memory = toy_model(6, seed), toy_memory(lengths, seed)
    search = joint(model, ctc_weight, bonus, beam_size=200, nbest=5, num_candidates=6)
    for b, found in enumerate(search(memory)):
        everything = {}
        for size in range(lengths[b] + 1):
            for tokens in itertools.product([1, 4, 5], repeat=size):
                parts = true_scores(model, memory, b, tokens)
                total = (1 - ctc_weight) * parts["attention"] + bonus * parts["length"]
                everything[tokens] = total + (ctc_weight * parts["ctc"] if ctc_weight else 0.0)
        best = sorted((t for t in everything if everything[t] > -math.inf), key=lambda t: -everything[t])
        assert [tuple(h.tokens) for h in found] == best[:5]
        for hypothesis in found:
            assert hypothesis.score == pytest.approx(everything[tuple(hypothesis.tokens)], abs=1e-8)


@given(seed=st.integers(0, 99), beam_size=st.integers(1, 5))
@settings(max_examples=10)
def test_the_score_of_a_pruned_hypothesis_is_still_its_true_score(seed: int, beam_size: int) -> None:
    model, memory = toy_model(8, seed), toy_memory([9, 5], seed)
    for b, found in enumerate(joint(model, bonus=0.2, beam_size=beam_size, nbest=beam_size)(memory)):
        assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)
        for hypothesis in found:
            expected = true_scores(model, memory, b, tuple(hypothesis.tokens))
            for name, score in hypothesis.scores.items():
                assert score == pytest.approx(expected[name], abs=1e-8)
            total = 0.7 * expected["attention"] + 0.3 * expected["ctc"] + 0.2 * expected["length"]
            assert hypothesis.score == pytest.approx(total, abs=1e-8)


@pytest.mark.parametrize("seed", range(8))
def test_a_beam_of_one_is_greedy(seed: int) -> None:
    model, memory = toy_model(8, seed), toy_memory([7], seed)
    tokens = [BOS]
    while len(tokens) - 1 < 7:
        scores = model.decoder(memory, torch.tensor([tokens]))[0, -1]
        scores[[BLANK, BOS]] = -math.inf
        best = int(scores.argmax())
        if best == EOS:
            break
        tokens.append(best)
    assert joint(model, 0.0, beam_size=1)(memory)[0][0].tokens == tokens[1:]


@pytest.mark.parametrize("seed", range(4))
def test_groups_that_do_not_avoid_each_other_are_as_many_equal_beams(seed: int) -> None:
    model, memory = toy_model(8, seed), toy_memory([7, 5], seed)
    one = joint(model, policy=Beam(3), nbest=3, num_candidates=8)(memory)
    two = joint(model, policy=Beam(6, groups=2, diversity=0.0), nbest=6, num_candidates=8)(memory)
    for expected, found in zip(one, two, strict=True):
        for number, hypothesis in enumerate(found):
            assert hypothesis.tokens == expected[number // 2].tokens
            assert hypothesis.score == pytest.approx(expected[number // 2].score, abs=1e-9)


@given(seed=st.integers(0, 99), diversity=st.sampled_from([0.5, 2.0, 50.0]), groups=st.sampled_from([2, 4]))
@settings(max_examples=10)
def test_diverse_groups_are_those_of_the_definition(seed: int, diversity: float, groups: int) -> None:
    """Attention alone, fixed length: a search written for one utterance and one group at a time."""
    model, memory, size, steps = toy_model(10, seed), toy_memory([4], seed), 2, 3
    found = joint(
        model,
        0.0,
        policy=Beam(size * groups, groups, diversity),
        nbest=size * groups,
        limits=Limits(1.0, steps, 0.0, steps),
    )(memory)[0]
    beams: list[list[tuple[float, tuple[int, ...]]]] = [[(0.0, ())] for _ in range(groups)]
    for _ in range(steps):
        taken = [0] * 10
        for group, beam in enumerate(beams):
            extensions = []
            for score, tokens in beam:
                log_probs = model.decoder(memory, torch.tensor([[BOS, *tokens]]))[0, -1].tolist()
                for token in range(10):
                    if token not in (BLANK, BOS, EOS):
                        total = score + log_probs[token]
                        extensions.append((total - diversity * taken[token], total, (*tokens, token)))
            beams[group] = [(total, tokens) for _, total, tokens in sorted(extensions, reverse=True)[:size]]
            for _, tokens in beams[group]:
                taken[tokens[-1]] += 1
    expected = []
    for beam in beams:
        for score, tokens in beam:
            ending = model.decoder(memory, torch.tensor([[BOS, *tokens]]))[0, -1, EOS].item()
            expected.append((score + ending, tokens))
    expected.sort(reverse=True)
    assert [h.score for h in found] == pytest.approx([score for score, _ in expected], abs=1e-8)
    assert sorted(tuple(h.tokens) for h in found) == sorted(tokens for _, tokens in expected)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"beam_size": 0}, r"beam_size=0: expected at least 1"),
        ({"groups": 3}, r"groups=3: expected a number that divides beam_size=10"),
        ({"diversity": -1.0}, r"diversity=-1\.0: expected 0 or more"),
    ],
)
def test_a_beam_out_of_range_is_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Beam(**values)  # type: ignore[arg-type]
