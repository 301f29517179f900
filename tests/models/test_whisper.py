"""A short window with what it is surrounded by."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_whisper import BINS, EOS, SOT, toy_features, toy_whisper

from s2s.models.memory import Memory
from s2s.models.whisper import SILENCE, Whisper

FRAMES = 6  # of the window that the toy hears


def of_silence(model: Whisper) -> Memory:
    source = torch.full((1, 2 * FRAMES, BINS), SILENCE, dtype=torch.float64)
    return model.encode(source, torch.tensor([2 * FRAMES]))


@given(lengths=st.lists(st.integers(1, 2 * FRAMES), min_size=1, max_size=4), seed=st.integers(0, 9))
@settings(max_examples=15)
@torch.no_grad()
def test_an_utterance_is_surrounded_alike_alone_and_in_any_batch(lengths: list[int], seed: int) -> None:
    model = toy_whisper(FRAMES, seed=seed)
    memory = model.encode(*toy_features(lengths, seed, more=2 * FRAMES - max(lengths)))
    together = model.surrounded(memory)
    assert together.states.shape == (len(lengths), FRAMES, 16)
    assert together.lengths.tolist() == [FRAMES] * len(lengths)
    tokens = torch.tensor([[SOT, 1, 2]])
    log_probs = model.decoder(together, tokens.expand(len(lengths), -1))
    for b, length in enumerate(lengths):
        alone = model.surrounded(model.encode(*toy_features([length], seed + b)))
        torch.testing.assert_close(together.states[b], alone.states[0])
        assert together.keys_values is not None
        assert alone.keys_values is not None
        for pair, own in zip(together.keys_values, alone.keys_values, strict=True):
            torch.testing.assert_close((pair[0][b], pair[1][b]), (own[0][0], own[1][0]))
        torch.testing.assert_close(log_probs[b], model.decoder(alone, tokens)[0])


@torch.no_grad()
def test_beyond_its_end_an_utterance_has_the_states_of_silence() -> None:
    model = toy_whisper(FRAMES)
    memory = model.encode(*toy_features([5, 10, 1], padding=0.0))
    found, silence = model.surrounded(memory), of_silence(model).states[0]
    for states, own, length in zip(found.states, memory.states, memory.lengths.tolist(), strict=True):
        assert length < FRAMES
        torch.testing.assert_close(states[:length], own[:length])
        torch.testing.assert_close(states[length:], silence[length:])
    # The decoder takes the keys and values: they are those of the states.
    plain = Memory(found.states, found.lengths)
    tokens = torch.tensor([[SOT, 1, 3]]).expand(3, -1)
    torch.testing.assert_close(model.decoder(found, tokens), model.decoder(plain, tokens))


@torch.no_grad()
def test_full_windows_are_themselves() -> None:
    model = toy_whisper(FRAMES)
    memory = model.encode(*toy_features([2 * FRAMES] * 2))
    found = model.surrounded(memory)
    assert torch.equal(found.states, memory.states)
    assert torch.equal(found.lengths, memory.lengths)
    tokens = torch.tensor([[SOT, 1], [SOT, EOS]])
    torch.testing.assert_close(model.decoder(found, tokens), model.decoder(memory, tokens))


def test_silence_is_heard_once_and_again_in_another_dtype() -> None:
    model = toy_whisper(FRAMES)
    encoded: list[torch.dtype] = []
    encode = model.encoder.forward
    model.encoder.forward = lambda source, lengths: (encoded.append(source.dtype), encode(source, lengths))[1]  # type: ignore[method-assign]
    memory = Memory(torch.randn(1, 3, 16).double(), torch.tensor([3]))
    for _ in range(3):
        model.surrounded(memory)
    assert encoded == [torch.float64]
    model.float()
    found = model.surrounded(Memory(memory.states.float(), memory.lengths))
    assert encoded == [torch.float64, torch.float32]
    assert found.states.dtype == torch.float32


def test_a_whisper_knows_its_heads_and_its_window() -> None:
    model = toy_whisper(FRAMES)
    assert model.max_frames == FRAMES
    assert model.alignment_heads == [(1, 0), (1, 1)]
    assert not [name for name in model.state_dict() if "silence" in name]
