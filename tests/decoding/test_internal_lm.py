from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import BLANK, BOS, EOS, toy_memory, toy_model

from s2s.decoding.beam import Beam
from s2s.decoding.engine import LabelSearch
from s2s.decoding.internal_lm import InternalLMScorer
from s2s.decoding.scorers import DecoderScorer, Scorer
from s2s.models.hybrid import HybridModel
from s2s.models.memory import Memory


def silent(model: HybridModel, tokens: list[int], num_frames: int) -> torch.Tensor:
    """log P (U+1,V) of the decoder, teacher-forced, with a memory of so many zero frames."""
    memory = Memory(torch.zeros(1, num_frames, 16, dtype=torch.float64), torch.tensor([num_frames]))
    return model.decoder(memory, torch.tensor([[BOS, *tokens]]))[0]


@pytest.mark.parametrize("num_frames", [1, 2, 9])
def test_the_score_is_that_of_the_decoder_with_any_number_of_zero_frames(num_frames: int) -> None:
    model = toy_model()
    scorer = InternalLMScorer(model.decoder)
    assert isinstance(scorer, Scorer)
    assert scorer.max_gain == 0.0
    texts = [[4, 5, 1], [5, 5, 4], [1, 4, 4], [4, 4, 4]]
    state = scorer.start(toy_memory([6, 3]), 2)
    for position, column in enumerate(zip(*[[BOS, *text] for text in texts], strict=True)):
        found = scorer.score(torch.tensor(column), state)
        for row, text in enumerate(texts):
            torch.testing.assert_close(found[row], silent(model, text, num_frames)[position])


@given(
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=4), beam_size=st.integers(1, 5), seed=st.integers(0, 99)
)
@settings(max_examples=12)
def test_a_search_subtracts_it_from_every_hypothesis(lengths: list[int], beam_size: int, seed: int) -> None:
    model, memory = toy_model(7, seed), toy_memory(lengths, seed)
    search = LabelSearch(
        {"attention": (DecoderScorer(model.decoder), 1.0), "internal_lm": (InternalLMScorer(model.decoder), -0.2)},
        Beam(beam_size),
        7,
        BOS,
        EOS,
        (BLANK, BOS),
        nbest=beam_size,
        batch_size=2,
    )
    for b, found in enumerate(search(memory)):
        assert found
        for hypothesis in found:
            labels = torch.tensor([*hypothesis.tokens, EOS]).unsqueeze(1)
            heard = model.decoder(memory.rows(b, b + 1), torch.tensor([[BOS, *hypothesis.tokens]]))[0]
            attention = heard.gather(1, labels).sum().item()
            internal = silent(model, hypothesis.tokens, 3).gather(1, labels).sum().item()
            assert hypothesis.scores == pytest.approx({"attention": attention, "internal_lm": internal}, abs=1e-8)
            assert hypothesis.score == pytest.approx(attention - 0.2 * internal, abs=1e-8)
