from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import BLANK, BOS, EOS, toy_memory, toy_model

from s2s.decoding.beam import Beam
from s2s.decoding.engine import LabelSearch
from s2s.decoding.internal_lm import Estimate, InternalLMScorer, MeanStates, load_estimate, utterance_mean, zeros
from s2s.decoding.scorers import DecoderScorer, Scorer
from s2s.errors import UserError
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


def plain_mean(memory: Memory, b: int) -> torch.Tensor:
    """The mean (D,) of the frames of one utterance."""
    length = int(memory.lengths[b])
    return sum((memory.states[b, t] for t in range(length)), torch.zeros(16, dtype=torch.float64)) / length


@given(
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=4), num_frames=st.integers(1, 5), seed=st.integers(0, 99)
)
@settings(max_examples=12)
def test_means_score_as_the_decoder_does_with_a_memory_of_them(lengths: list[int], num_frames: int, seed: int) -> None:
    model, memory = toy_model(7, seed), toy_memory(lengths, seed)
    every = torch.cat([memory.states[b, :length] for b, length in enumerate(lengths)])
    means: dict[str, list[torch.Tensor]] = {
        "utterance": [plain_mean(memory, b) for b in range(len(lengths))],
        "training": [every.mean(dim=0)] * len(lengths),
    }
    estimates: dict[str, Estimate] = {"utterance": utterance_mean, "training": MeanStates.of([memory])}
    text = torch.tensor([[BOS, 4, 5, 1, 6]])
    for name, estimate in estimates.items():
        scorer = InternalLMScorer(model.decoder, estimate=estimate)
        state = scorer.start(memory, 1)
        found = torch.stack([scorer.score(token.expand(len(lengths)), state) for token in text[0]], dim=1)
        for b, mean in enumerate(means[name]):
            alike = Memory(mean.expand(1, num_frames, -1), torch.tensor([num_frames]))
            torch.testing.assert_close(found[b], model.decoder(alike, text)[0])


def test_a_frame_that_stands_for_several_counts_for_them() -> None:
    memory = toy_memory([4, 2])
    counts = torch.tensor([[1, 3, 1, 2], [2, 1, 0, 0]])
    repeated = [memory.states[b].repeat_interleave(counts[b], dim=0).mean(dim=0) for b in range(2)]
    found = utterance_mean(replace(memory, counts=counts))
    torch.testing.assert_close(found.states[:, 0], torch.stack(repeated))
    every = torch.cat([memory.states[b].repeat_interleave(counts[b], dim=0) for b in range(2)])
    torch.testing.assert_close(MeanStates.of([replace(memory, counts=counts)]).states, every.mean(dim=0))


def test_layers_have_means_of_their_own_and_nothing_is_told_apart_by_batches() -> None:
    memory = toy_memory([4, 2, 3])
    assert 0 in memory.layers
    together = MeanStates.of([memory])
    apart = MeanStates.of([memory.rows(0, 1), memory.rows(1, 3)])
    torch.testing.assert_close(together.states, apart.states)
    torch.testing.assert_close(together.layers[0], apart.layers[0])
    own = [memory.layers[0].states[b, :length] for b, length in enumerate([4, 2, 3])]
    torch.testing.assert_close(together.layers[0], torch.cat(own).mean(dim=0))
    torch.testing.assert_close(together(memory).layers[0].states[1, 0], together.layers[0])
    torch.testing.assert_close(utterance_mean(memory).layers[0].states[2, 0], own[2].mean(dim=0))
    assert not zeros(memory).layers[0].states.any()


def test_means_are_read_back_and_what_is_not_that_is_named(tmp_path: Path) -> None:
    memory = toy_memory([4, 2])
    mean = MeanStates.of([memory])
    mean.save(tmp_path / "mean.safetensors")
    found = load_estimate(str(tmp_path / "mean.safetensors"))
    assert isinstance(found, MeanStates)
    torch.testing.assert_close(found.states, mean.states.float())
    assert found.layers.keys() == {0}
    assert found(memory).states.shape == (2, 1, 16)
    assert load_estimate("zero") is zeros
    assert load_estimate("utterance") is utterance_mean
    with pytest.raises(UserError, match=r"internal_lm=utterence: expected zero or utterance, or .* Did you mean"):
        load_estimate("utterence")
    (tmp_path / "other").write_text("words")
    with pytest.raises(UserError, match=r"other: cannot read mean states"):
        load_estimate(str(tmp_path / "other"))
    with pytest.raises(UserError, match=r"not of this model's encoder"):
        found(toy_memory([4], dim=8))
    with pytest.raises(UserError, match=r"no utterances"):
        MeanStates.of([])
