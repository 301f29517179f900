"""What the engine promises whatever the policy: who is searched together, when, and for how long."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from toy import BLANK, BOS, EOS, toy_memory, toy_model

from s2s.decoding.beam import Beam
from s2s.decoding.ctc_prefix import CTCPrefixScorer
from s2s.decoding.engine import LabelSearch
from s2s.decoding.hypothesis import Hypothesis, UtteranceError
from s2s.decoding.limits import Limits
from s2s.decoding.normalisation import Normalisation
from s2s.decoding.scorers import DecoderScorer, LengthBonus, RowState
from s2s.errors import UserError
from s2s.models.hybrid import HybridModel
from s2s.models.memory import Memory


def search(
    model: HybridModel, beam_size: int = 4, ctc_weight: float = 0.3, bonus: float = 0.0, **options: object
) -> LabelSearch:
    coverage = isinstance(found := options.get("normalisation"), Normalisation) and found.coverage_beta > 0
    return LabelSearch(
        {
            "attention": (DecoderScorer(model.decoder, need_attention=coverage), 1 - ctc_weight),
            "ctc": (CTCPrefixScorer(model.ctc, BOS, EOS), ctc_weight),
            "length": (LengthBonus(model.vocab_size, EOS), bonus),
        },
        Beam(beam_size),
        model.vocab_size,
        BOS,
        EOS,
        (BLANK, BOS),
        **options,  # type: ignore[arg-type]
    )


def same(found: list[Hypothesis], expected: list[Hypothesis]) -> None:
    assert [h.tokens for h in found] == [h.tokens for h in expected]
    for a, b in zip(found, expected, strict=True):
        assert a.score == pytest.approx(b.score, abs=1e-9)
        assert a.scores == pytest.approx(b.scores, abs=1e-9)


@given(
    lengths=st.lists(st.lists(st.integers(1, 12), min_size=1, max_size=5), min_size=1, max_size=4),
    batch_size=st.one_of(st.none(), st.integers(1, 6)),
    seed=st.integers(0, 99),
)
@settings(max_examples=15)
def test_utterances_that_come_and_go_are_decoded_as_if_alone(
    lengths: list[list[int]], batch_size: int | None, seed: int
) -> None:
    model = toy_model(8, seed)
    memories = [toy_memory(sizes, seed + i) for i, sizes in enumerate(lengths)]
    found = dict(search(model, nbest=3, batch_size=batch_size).stream(memories))
    number = 0
    for memory in memories:
        for b, length in enumerate(memory.lengths):
            alone = Memory(memory.states[b : b + 1, :length], memory.lengths[b : b + 1])
            same(found[number], search(model, nbest=3)(alone)[0])
            number += 1
    assert len(found) == number


def test_memories_are_asked_for_only_when_there_is_place() -> None:
    asked = []

    def memories() -> Iterator[Memory]:
        for i in range(6):
            asked.append(i)
            yield toy_memory([4, 4], i)

    results = search(toy_model(8), batch_size=4).stream(memories())
    next(results)
    assert asked == [0, 1]  # 4 utterances
    assert len(list(results)) == 11
    assert asked == list(range(6))


def test_a_longer_memory_than_those_before_joins_them() -> None:
    model, memory = toy_model(8), toy_memory([3, 2, 40, 30], 1)
    found = search(model, batch_size=2)(memory)
    for b, length in enumerate(memory.lengths):
        same(found[b], search(model)(Memory(memory.states[b : b + 1, :length], memory.lengths[b : b + 1]))[0])


def test_no_utterances_give_no_hypotheses() -> None:
    model, memory = toy_model(8), toy_memory([3])
    assert search(model)(Memory(memory.states[:0], memory.lengths[:0])) == []
    assert list(search(model).stream([])) == []
    empty = Memory(memory.states[:0], memory.lengths[:0])
    for batch_size in (None, 2):
        found = dict(search(model, batch_size=batch_size).stream([empty, memory, empty, memory]))
        assert sorted(found) == [0, 1]


def test_looking_for_the_finished_now_and_then_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model, memory = toy_model(8), toy_memory([20, 9, 14])
    every_step = search(model, nbest=3, bonus=0.3)(memory)
    monkeypatch.setattr("s2s.decoding.engine.steps_between_looks", lambda tensor: 8)
    for found, expected in zip(search(model, nbest=3, bonus=0.3)(memory), every_step, strict=True):
        same(found, expected)


@given(
    seed=st.integers(0, 99),
    alpha=st.sampled_from([0.0, 0.6, 1.0]),
    beta=st.sampled_from([0.0, 0.2]),
    power=st.sampled_from([0.0, 0.5, 1.0]),
    bonus=st.sampled_from([0.0, 1.0]),
)
@settings(max_examples=15)
def test_normalised_scores_are_those_of_the_formulas_and_the_best_is_found(
    seed: int, alpha: float, beta: float, power: float, bonus: float
) -> None:
    model, memory = toy_model(6, seed), toy_memory([2, 1], seed)
    normalisation = Normalisation(alpha, beta, power)
    found = search(model, 60, bonus=bonus, num_candidates=6, nbest=4, normalisation=normalisation)(memory)
    for b, size in enumerate([2, 1]):
        alone = Memory(memory.states[b : b + 1, :size], memory.lengths[b : b + 1])
        everything = {}
        for length in range(size + 1):
            for tokens in itertools.product([1, 4, 5], repeat=length):
                everything[tokens] = true_score(model, alone, tokens, bonus, normalisation)
        best = sorted((t for t in everything if everything[t] > -math.inf), key=lambda t: -everything[t])[:4]
        assert [tuple(h.tokens) for h in found[b]] == best
        assert [h.score for h in found[b]] == pytest.approx([everything[t] for t in best], abs=1e-8)


def true_score(
    model: HybridModel, memory: Memory, tokens: tuple[int, ...], bonus: float, normalisation: Normalisation
) -> float:
    inputs = torch.tensor([[BOS, *tokens]])
    log_probs = model.decoder(memory, inputs)[0]
    attention = sum(log_probs[i, token].item() for i, token in enumerate((*tokens, EOS)))
    ctc = -torch.nn.functional.ctc_loss(
        model.ctc(memory)[0], inputs[0, 1:], memory.lengths[0], torch.tensor(len(tokens)), reduction="sum"
    ).item()
    total = 0.7 * attention + 0.3 * ctc + bonus * len(tokens)
    total /= ((5 + len(tokens) + 1) / 6) ** normalisation.length_alpha
    total /= (len(tokens) + 1) ** normalisation.length_power
    attended = model.decoder.attention(memory, inputs)[0]  # type: ignore[attr-defined]
    return total + normalisation.coverage_beta * sum(math.log(min(1.0, x)) for x in attended.sum(dim=0).tolist())


@given(shortest=st.integers(0, 5), more=st.integers(0, 5), as_ratio=st.booleans(), seed=st.integers(0, 99))
@settings(max_examples=15)
def test_hypotheses_are_as_long_as_the_limits_say(shortest: int, more: int, as_ratio: bool, seed: int) -> None:
    longest = max(1, shortest + more)
    limits = Limits(max_length=longest, min_length=shortest)
    if as_ratio:
        limits = Limits(max_length_ratio=(longest + 0.5) / 10, min_length_ratio=(shortest + 0.5) / 10)
    for found in search(toy_model(8, seed), ctc_weight=0.0, nbest=4, limits=limits)(toy_memory([10, 10], seed)):
        assert all(shortest <= len(h.tokens) <= longest for h in found)


def test_the_greatest_least_length_makes_every_hypothesis_that_long() -> None:
    found = search(toy_model(8), limits=Limits(max_length=7, min_length=7), nbest=4)(toy_memory([9, 8]))
    assert {len(h.tokens) for hypotheses in found for h in hypotheses} == {7}


class Fixed(RowState):
    """The same scores whatever came before."""

    max_gain = 0.0

    def __init__(self, scores: list[float]) -> None:
        self.scores = torch.tensor(scores, dtype=torch.float64)

    def start(self, memory: Memory, beam_size: int) -> Tensor:
        return self.scores.repeat(len(memory.lengths) * beam_size, 1)

    def score(self, tokens: Tensor, state: Tensor) -> Tensor:
        return state


def test_a_decline_is_three_lengths_ten_below_the_best() -> None:
    # Ending costs nothing, going on costs 4 a token: after n tokens all are 4n below the best.
    steps = []

    class Counting(Fixed):
        max_gain = math.inf  # so that only a decline can end the search

        def score(self, tokens: Tensor, state: Tensor) -> Tensor:
            steps.append(len(tokens))
            return super().score(tokens, state)

    engine = LabelSearch(
        {"fixed": (Counting([-math.inf, -math.inf, -math.inf, 0.0, -4.0, -5.0]), 1.0)},
        Beam(2),
        6,
        BOS,
        EOS,
        end_detection="decline",
    )
    assert engine(toy_memory([50]))[0][0].tokens == []
    assert len(steps) == 6  # lengths 0, 1, 2 are within 10; lengths 3, 4, 5 are not


def slow_beam(
    model: HybridModel,
    memory: Memory,
    beam_size: int,
    max_length: int,
    nbest: int,
    patience: float | None,
    power: float,
) -> list[tuple[tuple[int, ...], float]]:
    """A beam search of one utterance, step by step; it ends early where there is `patience`, or nothing can be won."""
    alive: dict[tuple[int, ...], float] = {(): 0.0}
    ended: list[tuple[tuple[int, ...], float]] = []
    num_ended = 0
    for length in range(max_length + 1):
        extensions = []
        for tokens, score in alive.items():
            log_probs = model.decoder(memory, torch.tensor([[BOS, *tokens]]))[0, -1].tolist()
            allowed = [EOS] if length == max_length else [EOS, *range(BOS + 2, model.vocab_size), 1]
            extensions += [((*tokens, token), score + log_probs[token]) for token in allowed]
        extensions.sort(key=lambda extension: -extension[1])
        for tokens, score in extensions[:beam_size]:
            if tokens[-1] == EOS:
                ended.append((tokens[:-1], score / len(tokens) ** power))
                num_ended += 1
        ended = sorted(ended, key=lambda hypothesis: -hypothesis[1])[:beam_size]
        alive = dict([pair for pair in extensions if pair[0][-1] != EOS][:beam_size])
        if not alive:
            break
        hope = max(alive.values()) / (max_length + 1) ** power
        if len(ended) >= nbest and ended[nbest - 1][1] >= hope:
            break
        if patience is not None and num_ended >= max(1, round(patience * beam_size)):
            break
    return ended[:nbest]


@given(
    beam_size=st.integers(1, 5),
    patience=st.sampled_from([None, 0.3, 1.0, 1.5, 3.0]),
    power=st.sampled_from([0.0, 1.0]),
    nbest=st.integers(1, 3),
    seed=st.integers(0, 99),
)
@settings(max_examples=20)
def test_a_search_is_as_patient_as_one_by_hand(
    beam_size: int, patience: float | None, power: float, nbest: int, seed: int
) -> None:
    model, memory = toy_model(7, seed), toy_memory([6, 3], seed)
    nbest = min(nbest, beam_size)
    options = {} if patience is None else {"end_detection": "patience", "patience": patience}
    engine = search(
        model, beam_size, ctc_weight=0.0, nbest=nbest, normalisation=Normalisation(length_power=power), **options
    )
    for b, found in enumerate(engine(memory)):
        alone = memory.rows(b, b + 1)
        expected = slow_beam(model, alone, beam_size, int(alone.lengths), nbest, patience, power)
        assert [tuple(h.tokens) for h in found] == [tokens for tokens, _ in expected]
        assert [h.score for h in found] == pytest.approx([score for _, score in expected], abs=1e-9)


@pytest.mark.parametrize(("patience", "steps"), [(0.5, 1), (1.0, 2), (2.0, 4), (4.0, 8), (20.0, 31)])
def test_as_many_end_as_there_is_patience_for(patience: float, steps: int) -> None:
    # One of the two best extensions ends at every length, and the best of all is never out of reach.
    asked = []

    class Counting(Fixed):
        max_gain = math.inf

        def score(self, tokens: Tensor, state: Tensor) -> Tensor:
            asked.append(len(tokens))
            return super().score(tokens, state)

    scores = [-math.inf, -math.inf, -math.inf, -0.5, -0.4, -9.0]
    engine = LabelSearch(
        {"fixed": (Counting(scores), 1.0)}, Beam(2), 6, BOS, EOS, end_detection="patience", patience=patience
    )
    engine(toy_memory([30]))
    assert len(asked) == steps


@pytest.mark.parametrize("normalisation", [Normalisation(length_power=1.0), Normalisation(length_alpha=2.0)])
def test_a_text_that_is_the_better_the_longer_it_is_is_waited_for(normalisation: Normalisation) -> None:
    never = [-math.inf] * 3

    class DearAtFirst(Fixed):
        """The first token costs 5, or 2 to end at once; what follows is free."""

        def score(self, tokens: Tensor, state: Tensor) -> Tensor:
            found = state.clone()
            state[:] = torch.tensor([*never, 0.0, 0.0, -9.0])
            return found

    scorer = DearAtFirst([*never, -2.0, -5.0, -9.0])
    engine = LabelSearch({"a": (scorer, 1.0)}, Beam(2), 6, BOS, EOS, normalisation=normalisation)
    assert engine(toy_memory([20]))[0][0].tokens == [4] * 20


class AllTokens(Beam):
    """A beam that looks at the whole vocabulary."""

    num_candidates = None


@given(
    beam_size=st.sampled_from([1, 2, 4, 6]),
    groups=st.sampled_from([1, 2]),
    bonus=st.sampled_from([0.0, 0.5]),
    power=st.sampled_from([0.0, 1.0]),
    seed=st.integers(0, 99),
)
@settings(max_examples=20)
def test_the_best_tokens_of_a_hypothesis_are_all_that_a_beam_needs(
    beam_size: int, groups: int, bonus: float, power: float, seed: int
) -> None:
    groups = min(groups, beam_size)
    model, memory = toy_model(30, seed), toy_memory([7, 4], seed)
    found = []
    for policy in (Beam(beam_size, groups), AllTokens(beam_size, groups)):
        engine = search(model, ctc_weight=0.0, bonus=bonus, nbest=1, normalisation=Normalisation(length_power=power))
        engine = LabelSearch(
            {name: (scorer, engine.weights[name]) for name, scorer in engine.scorers.items()},
            policy,
            model.vocab_size,
            BOS,
            EOS,
            (BLANK, BOS),
            nbest=beam_size,
            normalisation=engine.normalisation,
        )
        assert engine.num_candidates == policy.num_candidates
        found.append(engine(memory))
    assert Beam(beam_size, groups).num_candidates == 2 * beam_size + 1 < 30
    for some, everything in zip(*found, strict=True):
        same(some, everything)


def test_a_beam_that_ranks_tokens_anew_looks_at_all_of_them() -> None:
    assert Beam(4, 2, 0.5).num_candidates is None


@pytest.mark.parametrize("token", [BLANK, 4, 29])
def test_not_a_number_is_reported_where_only_the_best_tokens_are_looked_at(token: int) -> None:
    model = toy_model(30)
    with torch.no_grad():
        model.decoder.out.bias[token] = float("nan")  # type: ignore[attr-defined]
    engine = search(model, 2, ctc_weight=0.0)
    assert engine.num_candidates == 5
    with pytest.raises(UtteranceError, match=r"utterance 1 of the batch: .*not a number"):
        engine(toy_memory([5, 4]))
    scores = [-1.0] * 30
    scores[token] = math.nan  # this one alone
    with pytest.raises(UtteranceError, match=r"not a number"):
        LabelSearch({"fixed": (Fixed(scores), 1.0)}, Beam(2), 30, BOS, EOS)(toy_memory([5]))


def test_a_scorer_that_is_subtracted_is_known_to_have_no_bound() -> None:
    model = toy_model(6)
    engine = LabelSearch({"a": (DecoderScorer(model.decoder), -0.1)}, Beam(2), 6, BOS, EOS)
    assert engine.max_gain == math.inf
    found = engine(toy_memory([5, 2]))
    assert [len(h[0].tokens) for h in found] == [5, 2]  # the longer the better


def test_what_a_scorer_forbids_is_forbidden_under_a_negative_weight_too() -> None:
    model = toy_model(6)
    forbids = Fixed([-math.inf, -math.inf, -math.inf, -1.0, -math.inf, -1.0])
    scorers = {"a": (DecoderScorer(model.decoder), 1.0), "b": (forbids, -0.5)}
    engine = LabelSearch(scorers, Beam(4), 6, BOS, EOS, nbest=4)
    for found in engine(toy_memory([4, 3])):
        for hypothesis in found:
            assert set(hypothesis.tokens) <= {5}
            total = hypothesis.scores["a"] - 0.5 * hypothesis.scores["b"]
            assert hypothesis.score == pytest.approx(total, abs=1e-9)


def test_not_a_number_is_reported_with_the_utterance_and_not_searched_over() -> None:
    memory = toy_memory([5, 5, 5])
    memory.states[1] = float("nan")
    with pytest.raises(UtteranceError, match=r"utterance 2 of the batch: .*not a number") as caught:
        search(toy_model(), batch_size=2)(memory)
    assert caught.value.utterance == 1


def test_an_utterance_that_may_output_nothing_is_reported() -> None:
    nothing = Fixed([-math.inf] * 6)
    with pytest.raises(UtteranceError, match=r"utterance 1 of the batch: no hypothesis .* allowed"):
        LabelSearch({"nothing": (nothing, 1.0)}, Beam(2), 6, BOS, EOS)(toy_memory([3]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nbest": 5}, r"nbest=5: expected 1 to beam_size=4"),
        ({"end_detection": "soon"}, r"end_detection=soon: expected one of exact, decline"),
        ({"batch_size": 0}, r"batch_size=0: expected at least 1"),
        ({"patience": 0.0}, r"patience=0\.0: expected a number above 0"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        search(toy_model(), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"max_length_ratio": 0.0}, r"max_length_ratio=0\.0"),
        ({"max_length": 0}, r"max_length=0"),
        ({"min_length": 3, "max_length": 2}, r"min_length=3"),
        ({"min_length_ratio": 2.0}, r"min_length_ratio=2\.0"),
    ],
)
def test_limits_out_of_range_are_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        replace(Limits(), **values)  # type: ignore[arg-type]


def test_negative_normalisation_is_refused() -> None:
    for values in ({"length_alpha": -1.0}, {"coverage_beta": -0.1}, {"length_power": -1.0}):
        with pytest.raises(UserError, match=r"expected 0 \(off\) or more"):
            Normalisation(**values)
