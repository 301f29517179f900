from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from toy import toy_memory
from toy_whisper import BEGIN, NO_TIMES, PREVIOUS, SOT, TIMES, toy_features, toy_whisper

from s2s.decoding.annotate import AnnotatingSearch
from s2s.decoding.beam import Beam
from s2s.decoding.engine import LabelSearch
from s2s.decoding.limits import Limits
from s2s.decoding.prompt import PromptedMemory
from s2s.decoding.whisper import WhisperScorer


@given(
    prompts=st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=5), min_size=1, max_size=5),
    start=st.integers(0, 5),
    count=st.integers(0, 5),
)
def test_rows_have_their_own_prompts_without_the_padding_of_others(
    prompts: list[list[int]], start: int, count: int
) -> None:
    memory = PromptedMemory.of(toy_memory([3] * len(prompts)), prompts)
    assert memory.prompt_lengths.tolist() == list(map(len, prompts))
    part, expected = memory.rows(start, start + count), prompts[start : start + count]
    assert part.prompts.shape == (len(expected), max(map(len, expected), default=0))
    assert [row[:n].tolist() for row, n in zip(part.prompts, part.prompt_lengths.tolist(), strict=True)] == expected
    assert torch.equal(part.states, memory.states[start : start + count, : part.states.size(1)])


def test_a_prompt_comes_to_a_memory_that_is_prepared() -> None:
    model = toy_whisper()
    memory = model.decoder.prepared(model.encode(*toy_features([4, 6])))
    prompted = PromptedMemory.of(memory, [[SOT], [PREVIOUS, 1, SOT]])
    assert prompted.keys_values is memory.keys_values
    rows = prompted.rows(1, 2)
    assert isinstance(rows, PromptedMemory)
    assert rows.keys_values is not None
    assert memory.keys_values is not None
    torch.testing.assert_close(rows.keys_values[0][0], memory.keys_values[0][0][1:])


@torch.no_grad()
def test_attention_is_where_the_decoder_looked_after_the_prompt() -> None:
    model = toy_whisper()
    memory = model.decoder.prepared(model.encode(*toy_features([4, 12])))
    prompts = [[SOT], [PREVIOUS, 1, 2, SOT, NO_TIMES]]
    scorer = WhisperScorer(model, TIMES)
    search = LabelSearch(
        {"attention": (scorer, 1.0)}, Beam(3), BEGIN + 7, SOT, model.eos_id, nbest=3, limits=Limits(max_length=4)
    )
    found = AnnotatingSearch(search, model, attention=True)(PromptedMemory.of(memory, prompts))
    assert any(hypothesis.tokens for hypotheses in found for hypothesis in hypotheses)
    for b, (hypotheses, prompt) in enumerate(zip(found, prompts, strict=True)):
        for hypothesis in hypotheses:
            tokens = torch.tensor([[*prompt, *hypothesis.tokens]])
            looked = model.decoder.attention(memory.rows(b, b + 1), tokens)[0]
            assert hypothesis.attention is not None
            torch.testing.assert_close(hypothesis.attention, looked[len(prompt) - 1 : -1])
