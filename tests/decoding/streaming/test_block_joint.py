"""Block-synchronous joint search against LabelSearch, and against a plain search of one hypothesis after the other."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pieces import cut, fed, in_pieces, same, sessions
from torch import Tensor
from toy import BLANK, BOS, EOS, toy_memory, toy_model

from s2s.decoding.alignment import token_spans
from s2s.decoding.beam import Beam
from s2s.decoding.constraints import PhraseConstraint, PrefixConstraint
from s2s.decoding.ctc_prefix import CTCPrefixScorer
from s2s.decoding.engine import LabelSearch
from s2s.decoding.hypothesis import UtteranceError
from s2s.decoding.normalisation import Normalisation
from s2s.decoding.scorers import DecoderScorer, LengthBonus
from s2s.decoding.streaming.block_joint import BlockJointSearch
from s2s.errors import UserError
from s2s.models.hybrid import HybridModel
from s2s.models.memory import Memory

NEVER = -math.inf
CTC_WEIGHT = 0.4


def joint(model: HybridModel, beam_size: int = 4, nbest: int = 3, bonus: float = 0.0, **options: object) -> LabelSearch:
    coverage = isinstance(found := options.get("normalisation"), Normalisation) and found.coverage_beta > 0
    return LabelSearch(
        {
            "attention": (DecoderScorer(model.decoder, coverage), 1 - CTC_WEIGHT),
            "ctc": (CTCPrefixScorer(model.ctc, BOS, EOS), CTC_WEIGHT),
            "length": (LengthBonus(model.vocab_size, EOS), bonus),
        },
        Beam(beam_size),
        model.vocab_size,
        BOS,
        EOS,
        (BLANK, BOS),
        nbest=nbest,
        num_candidates=model.vocab_size,
        **options,  # type: ignore[arg-type]
    )


@given(
    lengths=st.lists(st.integers(0, 14), min_size=1, max_size=3).filter(any),
    block_size=st.integers(2, 10),
    repetition=st.booleans(),
    bonus=st.sampled_from([0.0, 0.3]),
    seed=st.integers(0, 999),
)
@settings(max_examples=10)
def test_pieces_of_any_sizes_give_what_all_at_once_gives(
    lengths: list[int], block_size: int, repetition: bool, bonus: float, seed: int
) -> None:
    model, memory = toy_model(8, seed), toy_memory(lengths, seed)
    search = BlockJointSearch(joint(model, bonus=bonus), model.ctc, block_size, repetition=repetition)
    once = search.finish(search.step(memory, search.start(len(lengths), memory)))
    for found, expected in zip(fed(search, memory, seed, 6), once, strict=True):
        same(found, expected)


@given(lengths=st.lists(st.integers(1, 15), min_size=1, max_size=4), seed=st.integers(0, 999))
@settings(max_examples=10)
def test_utterances_shorter_than_a_block_are_searched_as_offline_with_the_frames_of_the_alignment(
    lengths: list[int], seed: int
) -> None:
    model, memory = toy_model(8, seed), toy_memory(lengths, seed)
    offline = joint(model, batch_size=2)
    for b, (found, expected) in enumerate(
        zip(fed(BlockJointSearch(offline, model.ctc, 16), memory, seed), offline(memory), strict=True)
    ):
        assert [h.tokens for h in found] == [h.tokens for h in expected]
        assert [h.score for h in found] == [h.score for h in expected]  # to the last bit
        assert [h.scores for h in found] == [h.scores for h in expected]
        log_probs = model.ctc(memory.rows(b, b + 1)).detach()
        for hypothesis in found:
            if hypothesis.frames is not None:
                spans = token_spans(log_probs, memory.lengths[b : b + 1], [hypothesis.tokens])
                assert [hypothesis.frames] == spans


@given(lengths=st.lists(st.integers(1, 12), min_size=2, max_size=3), seed=st.integers(0, 999))
@settings(max_examples=6)
def test_sessions_in_any_company_find_what_they_find_alone(lengths: list[int], seed: int) -> None:
    model, memory = toy_model(8, seed), toy_memory(lengths, seed)
    search = BlockJointSearch(joint(model), model.ctc, 4)
    for b, found in enumerate(sessions(search, memory, seed)):
        alone = memory.rows(b, b + 1)
        same(found, search.finish(search.step(alone, search.start(1, alone)))[0])


def prefix_scores(log_probs: Tensor, prefix: list[int]) -> dict[int, float]:
    """log P of the labels beginning with prefix and each token, of them being the prefix for eos, given (T,V):
    Watanabe et al. 2017, algorithm 2, frame by frame, as probabilities."""
    probs = log_probs.double().exp()
    size = len(probs)
    label, blank, last = [0.0] * (size + 1), [0.0] * (size + 1), None
    blank[0] = 1.0
    for t in range(size):
        blank[t + 1] = blank[t] * float(probs[t, BLANK])
    for token in prefix:
        new_label, new_blank = [0.0] * (size + 1), [0.0] * (size + 1)
        for t in range(size):
            ready = blank[t] + (0.0 if token == last else label[t])
            new_label[t + 1] = (new_label[t] + ready) * float(probs[t, token])
            new_blank[t + 1] = (new_blank[t] + new_label[t]) * float(probs[t, BLANK])
        label, blank, last = new_label, new_blank, token
    scores = {EOS: label[size] + blank[size]}
    for token in range(probs.size(1)):
        if token not in (BLANK, BOS, EOS):
            ready = [blank[t] + (0.0 if token == last else label[t]) for t in range(size)]
            scores[token] = sum(ready[t] * float(probs[t, token]) for t in range(size))
    return {token: math.log(p) if p > 0 else NEVER for token, p in scores.items()}


@dataclass
class PlainBlocks:
    """The algorithm, one hypothesis at a time."""

    model: HybridModel
    beam_size: int
    block_size: int
    back: int = 2
    repetition: bool = False
    committed: list[int] = field(default_factory=list)
    examined: int = 0
    best: tuple[list[int], float] = ([], 0.0)

    def score(self, memory: Memory, log_probs: Tensor, tokens: list[int]) -> dict[int, float]:
        """log P of a whole hypothesis and each token behind it."""
        attention = self.model.decoder(memory, torch.tensor([[BOS, *tokens]]))[0]
        so_far = sum(attention[u, token].item() for u, token in enumerate(tokens))
        return {
            token: CTC_WEIGHT * ctc + (1 - CTC_WEIGHT) * (so_far + attention[-1, token].item())
            for token, ctc in prefix_scores(log_probs, tokens).items()
        }

    def alive(self, memory: Memory) -> list[tuple[list[int], float]]:
        """The hypotheses before the first of which one ends."""
        log_probs = self.model.ctc(memory)[0]
        *before, last = [None, *self.committed]
        start = 0.0
        if last is not None:
            start = self.score(memory, log_probs, [t for t in before if t is not None])[last]
        beam = [(self.committed, start)]
        while True:
            longer = []
            for tokens, _ in beam:
                at_limit = len(tokens) >= int(memory.lengths)
                for token, score in self.score(memory, log_probs, tokens).items():
                    if score > NEVER and (token == EOS or not at_limit):
                        longer.append(([*tokens, token], score))
            longer.sort(key=lambda pair: -pair[1])
            if any(tokens[-1] == EOS for tokens, _ in longer[: self.beam_size]) or not longer:
                return beam
            beam = longer[: self.beam_size]

    def hear(self, memory: Memory) -> None:
        """One more block, all frames so far."""
        alive = self.alive(memory)
        size = examined = len(alive[0][0])
        if self.repetition:
            repeats = [u for tokens, _ in alive for u in range(self.examined, len(tokens)) if tokens[u] in tokens[:u]]
            if repeats:
                size, examined = min(repeats), min(repeats) + 1
        open_from = size + 1 - self.back
        agreed = 0
        while agreed < open_from and len({tuple(tokens[: agreed + 1]) for tokens, _ in alive}) == 1:
            agreed += 1
        agreed = max(agreed, len(self.committed))
        self.committed, self.examined = alive[0][0][:agreed], max(self.examined, examined)
        self.best = alive[0][0][: max(size, agreed)], alive[0][1]


@given(
    length=st.integers(1, 12),
    beam_size=st.sampled_from([1, 3]),
    block_size=st.integers(2, 5),
    back=st.integers(1, 3),
    repetition=st.booleans(),
    seed=st.integers(0, 999),
)
@settings(max_examples=8)
@torch.no_grad()
def test_after_every_block_it_is_where_the_plain_search_is(
    length: int, beam_size: int, block_size: int, back: int, repetition: bool, seed: int
) -> None:
    model, memory = toy_model(7, seed), toy_memory([length], seed)
    plain = PlainBlocks(model, beam_size, block_size, back, repetition)
    offline = joint(model, beam_size, nbest=1)
    search = BlockJointSearch(offline, model.ctc, block_size, back, repetition)
    state, blocks = search.start(1, memory), 0
    for piece, (heard,) in in_pieces(memory, seed):
        state = search.step(piece, state)
        while heard >= (blocks + 1) * block_size:
            blocks += 1
            plain.hear(cut(memory, [0], [blocks * block_size]))
        partial = search.partials(state)[0]
        assert partial.heard == heard
        assert partial.hypothesis.tokens == plain.best[0]
        assert partial.hypothesis.score == pytest.approx(plain.best[1], abs=1e-8)
        assert partial.hypothesis.tokens[: partial.num_stable] == plain.committed
    # At the end, all that begins with what is committed is searched.
    scorers = {**offline.scorers, **offline.candidate_scorers}
    weighted = {name: (scorer, offline.weights[name]) for name, scorer in scorers.items()}
    weighted["prefix"] = PrefixConstraint([plain.committed], 7, EOS), 1.0
    forced = LabelSearch(weighted, Beam(beam_size), 7, BOS, EOS, (BLANK, BOS), num_candidates=7)
    found, expected = search.finish(state)[0], forced(memory)[0]
    assert [h.tokens for h in found] == [h.tokens for h in expected]
    assert [h.score for h in found] == pytest.approx([h.score for h in expected], abs=1e-8)


@pytest.mark.parametrize("repetition", [False, True])
@pytest.mark.parametrize("seed", [13, 14])
def test_a_block_in_which_the_search_stops_early_takes_nothing_back(seed: int, repetition: bool) -> None:
    model, memory = toy_model(8, seed), toy_memory([14], seed)
    fed(BlockJointSearch(joint(model, 1, nbest=1), model.ctc, 2, repetition=repetition), memory, seed, 1)


def confident(labels: list[int], vocab_size: int = 8) -> tuple[HybridModel, Memory]:
    """A model whose CTC output is sure of a label for every frame, and a memory of such frames."""
    model = toy_model(vocab_size)
    with torch.no_grad():
        model.ctc.out.weight.zero_()
        model.ctc.out.bias.zero_()
        model.ctc.out.weight[:, :vocab_size] = 12 * torch.eye(vocab_size)
    states = torch.zeros(1, len(labels), 16, dtype=torch.float64)
    states[0, range(len(labels)), labels] = 1.0
    return model, Memory(states, torch.tensor([len(labels)]))


def committed_after(search: BlockJointSearch, memory: Memory) -> list[list[int]]:
    """What is stable after each frame."""
    state, stable = search.start(1, memory), []
    for t in range(int(memory.lengths)):
        state = search.step(cut(memory, [t], [t + 1]), state)
        partial = search.partials(state)[0]
        stable.append(partial.hypothesis.tokens[: partial.num_stable])
    return stable


def test_what_was_said_is_committed_to_block_by_block_but_the_last_token() -> None:
    labels = [4, 0, 5, 0, 6, 0, 7, 0, 4, 0, 5, 0]
    model, memory = confident(labels)
    search = BlockJointSearch(joint(model, beam_size=1, nbest=1), model.ctc, 4)
    stable = committed_after(search, memory)
    assert [stable[t] for t in (2, 3, 7, 11)] == [[], [4], [4, 5, 6], [4, 5, 6, 7, 4]]
    assert search.finish(search.step(memory, search.start(1, memory)))[0][0].tokens == [4, 5, 6, 7, 4, 5]


def test_a_repetition_waits_for_a_block_and_is_then_believed() -> None:
    model, memory = confident([4, 0, 4, 0, 5, 0, 6, 0, 7, 0, 0, 0])
    search = BlockJointSearch(joint(model, beam_size=1, nbest=1), model.ctc, 4, repetition=True)
    stable = committed_after(search, memory)
    assert [stable[t] for t in (3, 7, 11)] == [[], [4, 4, 5], [4, 4, 5, 6]]


def test_where_no_hypothesis_can_go_on_nor_end_the_block_is_over() -> None:
    model, memory = confident([4, 0, 4, 0, 4, 0])
    search = joint(model, 2, nbest=1).constrained("choices", PhraseConstraint([[4, 4, 4]], 8, EOS))
    blocks = BlockJointSearch(search, model.ctc, 2, back=1)  # of two frames, in which CTC cannot say 4 twice
    assert committed_after(blocks, memory)[1::2] == [[4], [4, 4], [4, 4, 4]]
    assert blocks.finish(blocks.step(memory, blocks.start(1, memory)))[0][0].tokens == [4, 4, 4]


def test_a_beam_that_holds_everything_finds_the_same_in_blocks_of_any_size() -> None:
    model, memory = toy_model(6, 3), toy_memory([4], 3)
    offline = joint(model, 150, nbest=20)
    for size in (1, 2, 3):
        search = BlockJointSearch(offline, model.ctc, size)
        found = search.finish(search.step(memory, search.start(1, memory)))[0]
        same(found, offline(memory)[0], frames=False)


def test_of_an_utterance_without_frames_the_empty_hypothesis_is_found() -> None:
    model, memory = toy_model(8), toy_memory([6])
    search = BlockJointSearch(joint(model), model.ctc, 4)
    silent = search.start(1, memory)
    state = search.step(memory, search.start(1, memory))
    found = search.finish(search.join([silent, state]))
    assert [(h.tokens, h.score) for h in found[0]] == [([], 0.0)]
    same(found[1], search.finish(state)[0])
    assert [h.tokens for h in search.finish(silent)[0]] == [[]]


def test_a_model_that_gives_no_number_is_named_with_its_utterance() -> None:
    model, memory = toy_model(8), toy_memory([6, 2, 6])
    memory.states[2, 1] = float("nan")
    search = BlockJointSearch(joint(model), model.ctc, 4)
    with pytest.raises(UtteranceError, match=r"utterance 3 of the batch: the model's output is not a number"):
        search.step(memory, search.start(3, memory))
    late = search.step(cut(memory, [0, 0, 0], [3, 0, 3]), search.start(3, memory))
    with pytest.raises(UtteranceError, match=r"utterance 3 of the batch: the model's output is not a number"):
        search.finish(late)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"block_size": 0}, r"block_size=0: expected at least 1"),
        ({"back": 0}, r"back=0: expected at least 1"),
    ],
)
def test_values_out_of_range_are_refused(options: dict[str, int], message: str) -> None:
    model = toy_model(8)
    with pytest.raises(UserError, match=message):
        BlockJointSearch(joint(model), model.ctc, **options)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"coverage_beta: what earlier blocks covered is not known"):
        BlockJointSearch(joint(model, normalisation=Normalisation(coverage_beta=0.2)), model.ctc)
