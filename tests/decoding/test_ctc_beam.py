"""CTC prefix beam search against enumeration of every alignment, and against a plain search over dictionaries."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from plain_ctc import NEVER, Full, enumerate_labels, plain_search, random_memory, random_scorers, true_score
from torch import Tensor
from toy import BLANK, BOS, EOS, UNK

from s2s.decoding.ctc_beam import CTCPrefixBeamSearch
from s2s.errors import UserError
from s2s.models.ctc import CTC
from s2s.models.memory import Memory


@given(
    lengths=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    mode=st.sampled_from(["alone", "scorers", "forbidding"]),
    num_candidates=st.sampled_from([None, 3]),
    seed=st.integers(0, 10_000),
)
@example(lengths=[5, 4], mode="alone", num_candidates=None, seed=0)
@settings(max_examples=15)
def test_a_beam_as_wide_as_the_space_finds_the_best_hypotheses_with_their_true_scores(
    lengths: list[int], mode: str, num_candidates: int | None, seed: int
) -> None:
    memory, ctc = random_memory(lengths, seed)
    scorers = {} if mode == "alone" else random_scorers(seed, forbid=mode == "forbidding")
    search = CTCPrefixBeamSearch(ctc, BOS, EOS, 400, 400, scorers, num_candidates)
    log_probs = ctc(memory).detach()
    for b, found in enumerate(search(memory)):
        enumerated = enumerate_labels(log_probs[b, : lengths[b]], (UNK, 4, 5))
        truth = {labels: true_score(p, labels, scorers) for labels, p in enumerated.items()}
        best = sorted((labels for labels in truth if truth[labels] > NEVER), key=lambda labels: -truth[labels])
        assert [tuple(h.tokens) for h in found] == best  # the empty one and repeated labels among them
        for hypothesis, labels in zip(found, best, strict=True):
            assert hypothesis.score == pytest.approx(truth[labels], abs=1e-9)
            expected = {name: scorer.of(labels) for name, (scorer, _) in scorers.items()}
            assert hypothesis.scores == pytest.approx({"ctc": enumerated[labels], **expected}, abs=1e-9)


@given(beam_size=st.integers(1, 6), peak=st.sampled_from([0.3, 1.0, 3.0]), seed=st.integers(0, 10_000))
@settings(max_examples=12)
def test_a_pruned_beam_without_scorers_is_that_of_the_plain_search_over_the_whole_vocabulary(
    beam_size: int, peak: float, seed: int
) -> None:
    memory, ctc = random_memory([14], seed, 12, peak)
    expected = plain_search(ctc(memory)[0], beam_size, [UNK, *range(4, 12)], {})
    found = CTCPrefixBeamSearch(ctc, BOS, EOS, beam_size, beam_size)(memory)[0]
    assert [tuple(h.tokens) for h in found] == [labels for labels, _ in expected]
    assert [h.score for h in found] == pytest.approx([score for _, score in expected], abs=1e-9)


@given(beam_size=st.integers(1, 6), peak=st.sampled_from([0.3, 1.0, 3.0]), seed=st.integers(0, 10_000))
@settings(max_examples=12)
def test_a_pruned_beam_with_scorers_is_that_of_the_plain_search(beam_size: int, peak: float, seed: int) -> None:
    memory, ctc = random_memory([9], seed, 8, peak)
    scorers = random_scorers(seed, 8)
    expected = plain_search(ctc(memory)[0], beam_size, [UNK, *range(4, 8)], scorers)
    found = CTCPrefixBeamSearch(ctc, BOS, EOS, beam_size, beam_size, scorers, None)(memory)[0]
    assert [tuple(h.tokens) for h in found] == [labels for labels, _ in expected]
    assert [h.score for h in found] == pytest.approx([score for _, score in expected], abs=1e-9)


@given(
    lengths=st.lists(st.integers(1, 40), min_size=2, max_size=5),
    fused=st.booleans(),
    more=st.integers(0, 9),
    seed=st.integers(0, 10_000),
)
@settings(max_examples=15)
def test_an_utterance_decodes_the_same_alone_and_in_any_batch(
    lengths: list[int], fused: bool, more: int, seed: int
) -> None:
    memory, ctc = random_memory(lengths, seed, 12, more=more)
    scorers = random_scorers(seed, 12) if fused else {}
    search = CTCPrefixBeamSearch(ctc, BOS, EOS, 5, 3, scorers, num_candidates=6)
    together = search(memory)
    order = list(reversed(range(len(lengths))))
    turned = search(Memory(memory.states[order], memory.lengths[order]))
    for b, length in enumerate(lengths):
        alone = search(Memory(memory.states[b : b + 1, :length], memory.lengths[b : b + 1]))[0]
        for other in (together[b], turned[order.index(b)]):
            assert [h.tokens for h in other] == [h.tokens for h in alone]
            assert [h.score for h in other] == pytest.approx([h.score for h in alone], abs=1e-9)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=10)
def test_no_hypothesis_is_there_twice_and_none_scores_above_its_true_score(seed: int) -> None:
    memory, ctc = random_memory([60], seed, 6, 0.5)
    found = CTCPrefixBeamSearch(ctc, BOS, EOS, 30, 30)(memory)[0]
    assert len({tuple(h.tokens) for h in found}) == 30
    for hypothesis in found:
        targets, size = torch.tensor(hypothesis.tokens), torch.tensor(len(hypothesis.tokens))
        loss = torch.nn.functional.ctc_loss(ctc(memory)[0], targets, memory.lengths[0], size, reduction="sum")
        assert hypothesis.score <= -loss.item() + 1e-9


def test_float32_emissions_are_summed_in_float64() -> None:
    memory, ctc = random_memory([200], 3, 12)
    single = CTC(6, 12)
    single.load_state_dict(ctc.state_dict())
    given = Memory(memory.states.float(), memory.lengths)
    widened = CTC(6, 12).double()
    widened.forward = lambda memory: single(given).double()  # type: ignore[method-assign]
    assert CTCPrefixBeamSearch(single, BOS, EOS, 8, 8)(given) == CTCPrefixBeamSearch(widened, BOS, EOS, 8, 8)(memory)


def test_forbidden_tokens_and_special_ones_are_never_found() -> None:
    memory, ctc = random_memory([30, 20], 1, 6)
    with torch.no_grad():
        ctc.out.bias[[UNK, BOS, EOS]] += 5
    found = CTCPrefixBeamSearch(ctc, BOS, EOS, 4, 4, forbidden_ids=[UNK])(memory)
    assert {token for best in found for h in best for token in h.tokens} == {4, 5}


def test_an_utterance_without_frames_has_the_empty_hypothesis() -> None:
    memory, ctc = random_memory([3, 1], 0)
    search = CTCPrefixBeamSearch(ctc, BOS, EOS, 3)
    for lengths in ([3, 0], [0, 0]):
        hypothesis = search(Memory(memory.states, torch.tensor(lengths)))[1][0]
        assert (hypothesis.tokens, hypothesis.score) == ([], 0.0)


def test_scorers_are_given_a_token_only_where_a_prefix_grew() -> None:
    given: list[Tensor] = []

    class Recording(Full):
        def score(self, tokens: Tensor, state: Tensor) -> Tensor:
            given.append(tokens.view(2, 9).clone())
            return super().score(tokens, state)

    memory, ctc = random_memory([6, 1], 0)
    lm = Recording(torch.zeros(1, 6, dtype=torch.float64))
    found = CTCPrefixBeamSearch(ctc, BOS, EOS, 9, 9, {"lm": (lm, 1.0)})(memory)
    assert len(found[1]) == 4  # one frame has no more to offer: five of its rows stand for nothing
    assert (given[0] == BOS).all()
    assert sorted(given[1][1].tolist()) == [-1, -1, -1, -1, -1, -1, UNK, 4, 5]
    assert all((tokens[1] == -1).all() for tokens in given[2:])
    assert all((tokens != token).all() for tokens in given[1:] for token in (BLANK, BOS, EOS))


def test_a_scorer_of_weight_zero_is_not_asked() -> None:
    memory, ctc = random_memory([5], 0)
    found = CTCPrefixBeamSearch(ctc, BOS, EOS, 3, scorers={"lm": (Full(torch.full((1, 6), NEVER)), 0.0)})(memory)
    assert list(found[0][0].scores) == ["ctc"]


def test_a_model_that_gives_no_number_is_reported_and_not_searched_over() -> None:
    memory, ctc = random_memory([5, 3], 0)
    memory.states[1, 2] = float("nan")
    with pytest.raises(UserError, match=r"utterance 2 of the batch: the model's output is not a number"):
        CTCPrefixBeamSearch(ctc, BOS, EOS, 3)(memory)


def test_scorers_that_forbid_everything_are_reported() -> None:
    memory, ctc = random_memory([5, 3], 0)
    scorers = {"lm": (Full(torch.full((1, 6), NEVER, dtype=torch.float64)), -1.0)}
    with pytest.raises(UserError, match=r"utterance 1 of the batch: no hypothesis has a finite score: ctc, lm"):
        CTCPrefixBeamSearch(ctc, BOS, EOS, 3, scorers=scorers)(memory)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beam_size": 0}, r"beam_size=0: expected 1 or more"),
        ({"beam_size": 2, "nbest": 3}, r"nbest=3: expected 1 to beam_size=2"),
        ({"num_candidates": 0}, r"num_candidates=0: expected 1 or more"),
        ({"scorers": random_scorers(0) | {"ctc": (Full(torch.zeros(1, 6)), 1.0)}}, r"give this scorer another name"),
    ],
)
def test_values_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        CTCPrefixBeamSearch(CTC(6, 6), BOS, EOS, **options)
