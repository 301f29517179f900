"""Samples have the distribution of the model, their true scores, and are the same in every batch."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from toy import BLANK, BOS, EOS, toy_memory, toy_model

import s2s.decoding.engine
from s2s.decoding.beam import Beam
from s2s.decoding.ctc_prefix import CTCPrefixScorer
from s2s.decoding.engine import LabelSearch, Policy
from s2s.decoding.hypothesis import Hypothesis
from s2s.decoding.limits import Limits
from s2s.decoding.sampling import BLOCK, Sampling, _draw
from s2s.decoding.scorers import DecoderScorer, LengthBonus, RowState
from s2s.errors import UserError
from s2s.models.hybrid import HybridModel
from s2s.models.memory import Memory

Probabilities = dict[int, float]
WEIGHT, BONUS = 0.8, 0.3  # so that the scorers' sum is not a distribution by itself


@dataclass(frozen=True)
class Bigrams(RowState):
    """log P (V,V) of a token after another."""

    table: Tensor
    max_gain: float = 0.0

    def start(self, memory: Memory, beam_size: int) -> Tensor:
        return memory.states.new_zeros(len(memory.lengths) * beam_size, 1)

    def score(self, tokens: Tensor, state: Tensor) -> Tensor:
        return self.table[tokens]


def search(model: HybridModel, policy: Policy, ctc_weight: float = 0.0, **options: object) -> LabelSearch:
    return LabelSearch(
        {
            "attention": (DecoderScorer(model.decoder), WEIGHT),
            "ctc": (CTCPrefixScorer(model.ctc, BOS, EOS), ctc_weight),
            "length": (LengthBonus(model.vocab_size, EOS), BONUS),
        },
        policy,
        model.vocab_size,
        BOS,
        EOS,
        (BLANK, BOS),
        **{"nbest": policy.beam_size, "num_candidates": model.vocab_size, **options},  # type: ignore[arg-type]
    )


def answer(hypotheses: list[Hypothesis]) -> list[list[int]]:
    return [h.tokens for h in hypotheses]


def filtered(scores: dict[int, float], policy: Sampling) -> Probabilities:
    """The distribution of the next token from its scores, by definition."""

    def normalised(weights: Probabilities) -> Probabilities:
        return {token: weight / sum(weights.values()) for token, weight in weights.items()}

    def first(tokens: list[int], probs: Probabilities, share: float) -> Probabilities:
        kept: Probabilities = {}
        for token in tokens:
            kept[token] = probs[token]
            if sum(kept.values()) >= share:
                break
        return normalised(kept)

    probs = normalised({token: math.exp(score / policy.temperature) for token, score in scores.items()})
    if policy.top_k is not None:
        probs = normalised(dict(sorted(probs.items(), key=lambda item: -item[1])[: policy.top_k]))
    if policy.top_p is not None:
        probs = first(sorted(probs, key=lambda token: -probs[token]), probs, policy.top_p)
    if policy.typical_p is not None:
        entropy = -sum(p * math.log(p) for p in probs.values())
        order = sorted(probs, key=lambda token: abs(-math.log(probs[token]) - entropy))
        probs = first(order, probs, policy.typical_p)
    return probs


def distribution(table: Tensor, policy: Sampling, longest: int) -> dict[tuple[int, ...], float]:
    """The probability of every hypothesis of at most `longest` tokens, all others being cut there."""
    everything: dict[tuple[int, ...], float] = {}
    prefixes: dict[tuple[int, ...], float] = {(): 1.0}
    while prefixes:
        prefix, so_far = prefixes.popitem()
        log_probs = (WEIGHT * table[prefix[-1] if prefix else BOS]).tolist()
        allowed = [1, EOS, 4, 5] if len(prefix) < longest else [EOS]
        scores = {token: log_probs[token] + (0.0 if token == EOS else BONUS) for token in allowed}
        for token, probability in filtered(scores, policy).items():
            if token == EOS:
                everything[prefix] = so_far * probability
            else:
                prefixes[(*prefix, token)] = so_far * probability
    return everything


POLICIES = {
    "as it is": {},
    "temperature": {"temperature": 0.5},
    "top k": {"top_k": 2},
    "nucleus": {"top_p": 0.8},
    "typical": {"typical_p": 0.5},
    "all": {"temperature": 1.8, "top_k": 3, "top_p": 0.85, "typical_p": 0.6},
}


def distance(a: dict[tuple[int, ...], float], b: dict[tuple[int, ...], float]) -> float:
    """Total variation."""
    return sum(abs(a.get(key, 0.0) - b.get(key, 0.0)) for key in a.keys() | b.keys()) / 2


@pytest.mark.parametrize("name", POLICIES)
def test_samples_are_as_frequent_as_the_filtered_distribution_says(name: str) -> None:
    # A table that the filters below cut very differently.
    table = torch.randn(6, 6, generator=torch.Generator().manual_seed(47), dtype=torch.float64).log_softmax(dim=-1)
    scorers = {"bigrams": (Bigrams(table), WEIGHT), "length": (LengthBonus(6, EOS), BONUS)}
    policy = Sampling(20000, **POLICIES[name])  # type: ignore[arg-type]
    sampler = LabelSearch(scorers, policy, 6, BOS, EOS, (BLANK, BOS), nbest=20000)
    samples = sampler(toy_memory([3]))[0]
    assert len(samples) == 20000
    found = {tokens: n / 20000 for tokens, n in Counter(tuple(h.tokens) for h in samples).items()}
    exact = {
        other: distribution(table, Sampling(**options), 3)  # type: ignore[arg-type]
        for other, options in POLICIES.items()
    }
    assert sum(exact[name].values()) == pytest.approx(1.0)
    assert found.keys() <= exact[name].keys()
    # There are 40 hypotheses: of 20000 samples the distance is 0.5 * sqrt(40 / 20000) = 0.022 or less on average.
    assert distance(found, exact[name]) < 0.022
    for other in exact.keys() - {name}:  # and what another filter leaves would be seen
        assert distance(found, exact[other]) > 0.2


def test_ctc_takes_part_in_the_draw() -> None:
    model, memory = toy_model(6, 1), toy_memory([2], 1)
    counts: Counter[tuple[int, ...]] = Counter()
    for seed in range(8):
        sampler = search(model, Sampling(500, seed=seed), ctc_weight=0.7, limits=Limits(max_length=1))
        counts.update(tuple(h.tokens) for h in sampler(memory)[0])
    scorer = CTCPrefixScorer(model.ctc, BOS, EOS)
    tokens = [1, EOS, 4, 5]
    with torch.no_grad():
        ctc = scorer.score_candidates(torch.tensor([BOS]), torch.tensor([tokens]), scorer.start(memory, 1))[0]
        attention = model.decoder(memory, torch.tensor([[BOS]]))[0, 0, tokens]
    bonus = torch.tensor([BONUS, 0.0, BONUS, BONUS])
    exact = (WEIGHT * attention + 0.7 * ctc + bonus).softmax(dim=-1).tolist()
    found = {sample: n / 4000 for sample, n in counts.items()}
    without = (WEIGHT * attention + bonus).softmax(dim=-1).tolist()
    hypotheses: list[tuple[int, ...]] = [(1,), (), (4,), (5,)]  # in the order of `tokens`
    assert distance(found, dict(zip(hypotheses, exact, strict=True))) < 0.03
    assert distance(found, dict(zip(hypotheses, without, strict=True))) > 0.1


@given(seed=st.integers(0, 99), temperature=st.sampled_from([0.5, 1.0, 3.0]), ctc_weight=st.sampled_from([0.0, 0.4]))
@settings(max_examples=10)
def test_the_score_of_a_sample_is_its_true_score_and_not_the_tempered_one(
    seed: int, temperature: float, ctc_weight: float
) -> None:
    model, memory = toy_model(8, seed), toy_memory([6, 3], seed)
    policy = Sampling(5, temperature, top_k=4, top_p=0.9, seed=seed)
    for b, samples in enumerate(search(model, policy, ctc_weight)(memory)):
        assert len(samples) == 5
        assert [h.score for h in samples] == sorted((h.score for h in samples), reverse=True)
        alone = memory.rows(b, b + 1)
        for sample in samples:
            with torch.no_grad():
                log_probs = model.decoder(alone, torch.tensor([[BOS, *sample.tokens]]))[0]
                emissions = model.ctc(alone)[0]
            attention = sum(log_probs[i, token].item() for i, token in enumerate((*sample.tokens, EOS)))
            expected = WEIGHT * attention + BONUS * len(sample.tokens)
            if ctc_weight:
                tokens, size = torch.tensor(sample.tokens, dtype=torch.long), torch.tensor(len(sample.tokens))
                loss = torch.nn.functional.ctc_loss(emissions, tokens, alone.lengths[0], size, reduction="sum")
                expected -= ctc_weight * loss.item()
            assert sample.score == pytest.approx(expected, abs=1e-8)


@given(
    lengths=st.lists(st.integers(1, 9), min_size=3, max_size=6),
    ctc_weight=st.sampled_from([0.0, 0.4]),
    seed=st.integers(0, 99),
)
@settings(max_examples=8)
def test_an_utterance_gets_the_same_samples_alone_in_any_batch_and_whenever_it_joins(
    lengths: list[int], ctc_weight: float, seed: int
) -> None:
    model, memory = toy_model(8, seed), toy_memory(lengths, seed)
    options = {"top_p": 0.95, "typical_p": 0.9} if seed % 2 else {}
    policy = Sampling(4, seed=seed, **options)  # type: ignore[arg-type]
    alone = [search(model, policy, ctc_weight)(memory.rows(b, b + 1))[0] for b in range(len(lengths))]
    expected = [answer(samples) for samples in alone]
    turned = Memory(memory.states.flip(0), memory.lengths.flip(0))
    for batch_size in (None, 2):
        sampler = search(model, policy, ctc_weight, batch_size=batch_size)
        assert [answer(samples) for samples in sampler(memory)] == expected
        assert [answer(samples) for samples in sampler(turned)] == expected[::-1]


def test_an_utterance_that_waits_for_others_to_leave_gets_the_same_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    model, memory = toy_model(8), toy_memory([2, BLOCK - 1, 4, 1, 7])
    limits = Limits(min_length_ratio=1.0)  # up to the last random number of a block
    expected = [answer(samples) for samples in search(model, Sampling(4), limits=limits)(memory)]
    # As on an accelerator, where finished utterances stay for some steps.
    monkeypatch.setattr(s2s.decoding.engine, "steps_between_looks", lambda tensor: 7)
    for batch_size in (None, 2):
        found = search(model, Sampling(4), limits=limits, batch_size=batch_size)(memory)
        assert [answer(samples) for samples in found] == expected


def test_the_seed_decides_and_the_global_generator_does_not() -> None:
    model, memory = toy_model(8), toy_memory([9, 6])
    torch.manual_seed(0)
    first = search(model, Sampling(8, seed=1))(memory)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    assert search(model, Sampling(8, seed=1))(memory) == first
    assert torch.equal(torch.get_rng_state(), before)
    other = search(model, Sampling(8, seed=2))(memory)
    assert all(answer(a) != answer(b) for a, b in zip(first, other, strict=True))


def test_a_longer_neighbour_does_not_change_the_random_numbers() -> None:
    model = toy_model(8)
    memory = toy_memory([5, 2 * BLOCK + 20])
    sampler = search(model, Sampling(3), limits=Limits(min_length_ratio=0.9))
    alone, together = sampler(memory.rows(0, 1)), sampler(memory)
    assert len(together[1][0].tokens) > 2 * BLOCK
    assert answer(together[0]) == answer(alone[0])


@pytest.mark.parametrize("nbest", [1, 3, 7])
def test_fewer_than_all_samples_are_the_best_of_them(nbest: int) -> None:
    model, memory = toy_model(8, 2), toy_memory([9, 5, 7], 2)
    everything = search(model, Sampling(8))(memory)
    assert len({h.score for samples in everything for h in samples}) > 12
    for samples, found in zip(everything, search(model, Sampling(8), nbest=nbest)(memory), strict=True):
        assert answer(found) == answer(samples[:nbest])


@pytest.mark.parametrize("options", [{"temperature": 1e-6}, {"temperature": 1e-320}, {"top_k": 1}, {"top_p": 1e-9}])
def test_sampling_that_leaves_only_the_best_token_is_greedy(options: dict[str, float]) -> None:
    for seed in range(5):
        model, memory = toy_model(8, seed), toy_memory([9, 5], seed)
        greedy = search(model, Beam(1))(memory)
        for best, samples in zip(greedy, search(model, Sampling(3, **options))(memory), strict=True):  # type: ignore[arg-type]
            assert answer(samples) == answer(best) * 3


def test_filters_that_keep_everything_change_nothing() -> None:
    model, memory = toy_model(8), toy_memory([9, 5])
    wide = Sampling(6, top_k=100, top_p=1.0, typical_p=1.0)
    assert search(model, wide)(memory) == search(model, Sampling(6))(memory)


@pytest.mark.parametrize("options", [{}, {"top_k": 3, "top_p": 0.9, "typical_p": 0.9}])
def test_a_sample_with_no_way_on_dies_without_harm_to_the_others(options: dict[str, float]) -> None:
    table = torch.zeros(6, 6, dtype=torch.float64)
    table[5] = -math.inf  # nothing may follow token 5, not even the end
    policy = Sampling(50, **options)  # type: ignore[arg-type]
    sampler = LabelSearch({"bigrams": (Bigrams(table), 1.0)}, policy, 6, BOS, EOS, (BLANK, BOS), nbest=50)
    for samples in sampler(toy_memory([6, 3])):
        assert 0 < len(samples) < 50
        assert all(5 not in h.tokens and h.score == 0.0 for h in samples)


def test_a_token_of_probability_0_is_never_drawn() -> None:
    weights = torch.tensor([[[0.0, 0.25, 0.0, 0.75, 0.0]]], dtype=torch.float64)
    # From the smallest random number there is to the largest.
    for uniform, token in ((0.0, 1), (0.25 - 2**-53, 1), (0.25, 3), (1 - 2**-53, 3)):
        assert _draw(weights, torch.tensor([[uniform]], dtype=torch.float64)).item() == token


@pytest.mark.parametrize("options", POLICIES.values())
def test_where_nothing_is_allowed_nothing_has_a_weight_and_it_is_a_number(options: dict[str, float]) -> None:
    nothing = torch.full((2, 3, 6), -math.inf)
    assert (Sampling(3, **options)._weights(nothing) == 0).all()  # type: ignore[arg-type]


def test_values_out_of_range_are_refused() -> None:
    wrong = {
        "beam_size": [0],
        "temperature": [0.0, -1.0, math.inf, math.nan],
        "top_k": [0],
        "top_p": [0.0, 1.1, math.nan],
        "typical_p": [0.0, 1.1],
        "seed": [-1, 2**63],
    }
    for name, value in itertools.chain.from_iterable(itertools.product([n], values) for n, values in wrong.items()):
        with pytest.raises(UserError, match=rf"^{name}={value}: expected"):
            Sampling(**{name: value})
