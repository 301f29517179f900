"""CTC prefix beams piece by piece: the offline search, and plain searches after every piece."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pieces import cut, fed, in_pieces, same, sessions
from plain_ctc import (
    enumerate_labels,
    plain_beam,
    random_memory,
    random_scorers,
    true_score,
    without_eos,
)
from toy import BOS, EOS, UNK

from s2s.decoding.alignment import token_spans
from s2s.decoding.ctc_beam import CTCPrefixBeamSearch
from s2s.decoding.hypothesis import UtteranceError, num_shared
from s2s.decoding.scorers import DecoderScorer
from s2s.decoding.streaming.ctc_prefix import StreamingCTCPrefixSearch
from s2s.models.language_model import TransformerLanguageModel
from s2s.models.memory import Memory

LENGTHS = st.lists(st.integers(0, 25), min_size=1, max_size=4).filter(any)


def searches(seed: int, lengths: list[int], fused: bool, nbest: int = 3) -> tuple[Memory, CTCPrefixBeamSearch]:
    """A random memory and a search of 5 prefixes, without scorers or with all kinds of them."""
    memory, ctc = random_memory(lengths, seed, 8)
    scorers = {}
    if fused:
        lm = TransformerLanguageModel(8, 8, 1, 2, 8).double().eval()
        torch.nn.init.normal_(lm.out.weight)
        scorers = {**random_scorers(seed, 8), "transformer": (DecoderScorer(lm), 0.5)}
    return memory, CTCPrefixBeamSearch(ctc, BOS, EOS, 5, nbest, scorers, num_candidates=5)


@given(lengths=LENGTHS, fused=st.booleans(), largest=st.integers(1, 9), seed=st.integers(0, 999))
@settings(max_examples=15)
def test_pieces_of_any_sizes_give_what_the_offline_search_gives(
    lengths: list[int], fused: bool, largest: int, seed: int
) -> None:
    memory, search = searches(seed, lengths, fused)
    for found, expected in zip(
        fed(StreamingCTCPrefixSearch(search), memory, seed, largest), search(memory), strict=True
    ):
        same(found, expected, frames=False)


@given(lengths=st.lists(st.integers(1, 20), min_size=2, max_size=4), fused=st.booleans(), seed=st.integers(0, 999))
@settings(max_examples=12)
def test_sessions_in_any_company_find_what_they_find_alone(lengths: list[int], fused: bool, seed: int) -> None:
    memory, search = searches(seed, lengths, fused)
    streaming = StreamingCTCPrefixSearch(search)
    for b, found in enumerate(sessions(streaming, memory, seed)):
        alone = memory.rows(b, b + 1)
        same(found, streaming.finish(streaming.step(alone, streaming.start(1, memory)))[0])
        same(found, search(alone)[0], frames=False)


@given(lengths=st.lists(st.integers(1, 4), min_size=1, max_size=3), fused=st.booleans(), seed=st.integers(0, 999))
@settings(max_examples=10)
def test_after_every_piece_a_wide_beam_holds_the_best_of_all_with_its_true_score(
    lengths: list[int], fused: bool, seed: int
) -> None:
    memory, ctc = random_memory(lengths, seed)
    scorers = random_scorers(seed) if fused else {}
    search = StreamingCTCPrefixSearch(CTCPrefixBeamSearch(ctc, BOS, EOS, 400, 400, scorers, None))
    log_probs = ctc(memory).detach()
    state = search.start(len(lengths), memory)
    for piece, heard in in_pieces(memory, seed, 2):
        state = search.step(piece, state)
        for b, partial in enumerate(search.partials(state)):
            enumerated = enumerate_labels(log_probs[b, : heard[b]], (UNK, 4, 5))
            truth = {labels: p + without_eos(labels, scorers) for labels, p in enumerated.items()}
            best = max(truth, key=lambda labels: truth[labels])
            assert tuple(partial.hypothesis.tokens) == best
            assert partial.hypothesis.score == pytest.approx(truth[best], abs=1e-9)
            assert partial.hypothesis.scores["ctc"] == pytest.approx(enumerated[best], abs=1e-9)
            spans = token_spans(log_probs[b : b + 1, : heard[b]], torch.tensor([heard[b]]), [list(best)])
            assert [partial.hypothesis.frames] == spans
    for b, found in enumerate(search.finish(state)):
        enumerated = enumerate_labels(log_probs[b, : lengths[b]], (UNK, 4, 5))
        truth = {labels: true_score(p, labels, scorers) for labels, p in enumerated.items()}
        assert [tuple(h.tokens) for h in found] == sorted(truth, key=lambda labels: -truth[labels])
        lengths_b = torch.tensor([lengths[b]])
        for hypothesis in found:
            spans = token_spans(log_probs[b : b + 1, : lengths[b]], lengths_b, [hypothesis.tokens])
            assert [hypothesis.frames] == spans  # the forced alignment


@given(beam_size=st.integers(1, 6), fused=st.booleans(), peak=st.sampled_from([0.3, 1.0]), seed=st.integers(0, 999))
@settings(max_examples=12)
def test_after_every_piece_a_narrow_beam_is_that_of_the_plain_search_with_its_best_alignments(
    beam_size: int, fused: bool, peak: float, seed: int
) -> None:
    memory, ctc = random_memory([10], seed, 7, peak)
    scorers = random_scorers(seed, 7) if fused else {}
    search = StreamingCTCPrefixSearch(CTCPrefixBeamSearch(ctc, BOS, EOS, beam_size, beam_size, scorers, None))
    log_probs = ctc(memory)[0].detach()
    state = search.start(1, memory)
    for piece, (heard,) in in_pieces(memory, seed):
        state = search.step(piece, state)
        beam = plain_beam(log_probs[:heard], beam_size, [UNK, *range(4, 7)], scorers)
        partial, best = search.partials(state)[0], next(iter(beam))
        assert tuple(partial.hypothesis.tokens) == best
        assert partial.hypothesis.score == pytest.approx(beam[best].total + without_eos(best, scorers), abs=1e-9)
        assert partial.hypothesis.frames == list(beam[best].best.spans)
        assert partial.num_stable == num_shared(beam)
    for hypothesis in search.finish(state)[0]:
        assert hypothesis.frames == list(beam[tuple(hypothesis.tokens)].best.spans)


def test_a_token_that_ends_one_piece_and_begins_the_next_is_one_token() -> None:
    memory, ctc = random_memory([9], 2, 6, peak=6.0)
    memory = Memory(memory.states[:, [0, 0, 0, 1, 1, 2, 2, 2, 2]], memory.lengths)
    search = CTCPrefixBeamSearch(ctc, BOS, EOS, 4)
    streaming = StreamingCTCPrefixSearch(search)
    for border in range(10):
        state = streaming.step(cut(memory, [0], [border]), streaming.start(1, memory))
        same(streaming.finish(streaming.step(cut(memory, [border], [9]), state))[0], search(memory)[0], frames=False)


def test_what_a_state_keeps_grows_with_the_frames_of_its_own_utterance_only() -> None:
    memory, ctc = random_memory([40, 4], 0)
    search = StreamingCTCPrefixSearch(CTCPrefixBeamSearch(ctc, BOS, EOS, 3))
    state = search.start(2, memory)
    for t in range(10):
        piece = cut(memory, [4 * t, 0], [4 * t + 4, 0 if t else 4])
        state = search.step(piece, search.join([search.rows(state, [0]), search.rows(state, [1])]))
    assert [len(steps) for steps in state.steps] == [40, 4]
    assert state.alignments is not None
    assert [len(origins) for origins in state.alignments.origins] == [40, 4]
    assert all(steps.untyped_storage().nbytes() == steps.nbytes for steps in state.steps)


def test_an_utterance_of_which_nothing_was_heard_is_empty() -> None:
    memory, ctc = random_memory([3], 0)
    search = StreamingCTCPrefixSearch(CTCPrefixBeamSearch(ctc, BOS, EOS, 3, scorers=random_scorers(0)))
    state = search.start(2, memory)
    assert [partial.hypothesis.tokens for partial in search.partials(state)] == [[], []]
    assert [found[0].tokens for found in search.finish(state)] == [[], []]


def test_a_model_that_gives_no_number_is_named_with_its_utterance() -> None:
    memory, ctc = random_memory([5, 3], 0)
    memory.states[1, 2] = float("nan")
    search = StreamingCTCPrefixSearch(CTCPrefixBeamSearch(ctc, BOS, EOS, 3))
    with pytest.raises(UtteranceError, match=r"utterance 2 of the batch: the model's output is not a number"):
        search.step(memory, search.start(2, memory))


@pytest.mark.parametrize("fused", [True, False])
def test_an_utterance_that_hears_nothing_stays_as_it_was_whoever_hears_something(fused: bool) -> None:
    memory, search = searches(0, [9, 6], fused)
    if not fused:  # all labels are equally probable, and so are prefixes
        search.ctc.out.weight.data.zero_()
        search.ctc.out.bias.data.zero_()
    streaming = StreamingCTCPrefixSearch(search)
    state = streaming.step(cut(memory, [0, 0], [2, 6]), streaming.start(2, memory))
    before = streaming.rows(state, [1])
    state = streaming.step(cut(memory, [2, 6], [9, 6]), state)
    after = streaming.rows(state, [1])
    for name, value in vars(before.prefixes).items():
        assert torch.equal(value, getattr(after.prefixes, name)), name
    assert torch.equal(before.fusion.sums, after.fusion.sums)
    assert torch.equal(before.steps[0], after.steps[0])
    assert before.alignments is not None
    assert after.alignments is not None
    assert torch.equal(before.alignments.label_ends, after.alignments.label_ends)
    assert streaming.finish(before) == streaming.finish(after)
