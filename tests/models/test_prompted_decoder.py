"""A prompt before bos changes nothing but what the decoder has read."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import toy_memory

from s2s.decoding.beam import Beam
from s2s.decoding.engine import LabelSearch
from s2s.decoding.scorers import DecoderScorer
from s2s.models.prompted_decoder import PromptedDecoder
from s2s.models.transformer_decoder import TransformerDecoder

VOCAB_SIZE, BOS, EOS = 7, 0, 2
LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=4)
PROMPT = st.lists(st.integers(0, VOCAB_SIZE - 1), min_size=1, max_size=3)


def decoder(max_positions: int = 12) -> TransformerDecoder:
    torch.manual_seed(0)
    kind = "learned" if max_positions else "sinusoidal"
    return TransformerDecoder(VOCAB_SIZE, 16, 16, 2, 2, 32, positions=kind, max_positions=max_positions).double().eval()


@given(lengths=LENGTHS, prompt=PROMPT, size=st.integers(1, 5))
@settings(max_examples=15)
@torch.no_grad()
def test_it_is_the_decoder_after_its_prompt(lengths: list[int], prompt: list[int], size: int) -> None:
    plain, memory = decoder(), toy_memory(lengths)
    prompted = PromptedDecoder(plain, prompt)
    tokens = torch.randint(VOCAB_SIZE, (2 * len(lengths), size))
    whole = torch.cat((torch.tensor(prompt).expand(len(tokens), -1), tokens), dim=1)
    expected = plain(memory, whole)[:, len(prompt) :]
    assert torch.equal(prompted(memory, tokens), expected)
    looked = prompted.attention(memory, tokens)
    assert torch.equal(looked, plain.attention(memory, whole)[:, len(prompt) :])
    state = prompted.start(memory, 2, need_attention=True)
    for i in range(size):
        found, state = prompted.step(tokens[:, i], state)
        assert (found - expected[:, i]).abs().max() < 1e-12
        assert state.attention is not None
        assert (state.attention.flatten(0, 1) - looked[:, i]).abs().max() < 1e-12


@given(lengths=LENGTHS, prompt=PROMPT, batch_size=st.integers(1, 4))
@settings(max_examples=10)
def test_utterances_that_come_and_go_are_searched_as_if_alone(
    lengths: list[int], prompt: list[int], batch_size: int
) -> None:
    prompted = PromptedDecoder(decoder(), prompt)
    scorers = {"attention": (DecoderScorer(prompted), 1.0)}
    search = LabelSearch(scorers, Beam(3), VOCAB_SIZE, BOS, EOS, (BOS,), nbest=3, batch_size=batch_size)
    memory = toy_memory(lengths)
    together = search(memory)
    for b in range(len(lengths)):
        (alone,) = search(memory.rows(b, b + 1))
        assert [h.tokens for h in together[b]] == [h.tokens for h in alone]
        assert [h.score for h in together[b]] == pytest.approx([h.score for h in alone], abs=1e-9)


def test_the_prompt_takes_positions() -> None:
    assert PromptedDecoder(decoder(12), [2, 3]).max_positions == 10
    assert PromptedDecoder(decoder(0), [2, 3]).max_positions is None
