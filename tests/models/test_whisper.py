"""A short window, and the silence behind it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_whisper import BINS, SOT, toy_features, toy_whisper

from s2s.models import whisper
from s2s.models.memory import Memory

FRAMES = 6  # of the window that the toy hears


@pytest.fixture(autouse=True, scope="module")
def alike() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(whisper, "ALIKE", 2)
        yield


@given(lengths=st.lists(st.integers(1, 2 * FRAMES), min_size=1, max_size=4), seed=st.integers(0, 9))
@settings(max_examples=15)
@torch.no_grad()
def test_a_window_is_encoded_alike_alone_and_in_any_batch(lengths: list[int], seed: int) -> None:
    model = toy_whisper(FRAMES, seed=seed)
    together = model.encode(*toy_features(lengths, seed, more=2 * FRAMES - max(lengths)))
    tokens = torch.tensor([[SOT, 1, 2]])
    log_probs = model.decoder(together, tokens.expand(len(lengths), -1))
    for b, length in enumerate(lengths):
        alone = model.encode(*toy_features([length], seed + b))
        size = int(together.lengths[b])
        assert alone.lengths.tolist() == [size]
        torch.testing.assert_close(together.states[b, :size], alone.states[0])
        assert together.frame_counts[b, :size].tolist() == alone.frame_counts[0].tolist()
        assert together.frame_counts[b].sum() in (FRAMES, FRAMES - 1)  # one may be left out between two groups
        torch.testing.assert_close(log_probs[b], model.decoder(alone, tokens)[0])


@torch.no_grad()
def test_where_no_frame_is_left_out_a_window_goes_on_with_its_own_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whisper, "ALIKE", 1)
    model = toy_whisper(FRAMES)
    source, lengths = toy_features([5, 8], padding=0.0)
    found = model.encode(source, lengths)
    for b, length in enumerate(lengths.tolist()):
        own = source[b, :length]
        silence = own.new_full((2 * FRAMES + whisper.BEYOND - length, BINS), float(own.min()))
        x, _ = model.encoder.front(torch.cat((own, silence))[None], torch.tensor([2 * FRAMES + whisper.BEYOND]))
        end = int(model.encoder.output_lengths(torch.tensor(length)))
        x[0, end] = x[0, end + 1]  # the frame over the end of the window is taken for silence
        ones = torch.ones(1, FRAMES, dtype=torch.long)
        expected = model.encoder.memory_of(x[:, :FRAMES], model.encoder.positions.first(FRAMES, x.device), ones)
        torch.testing.assert_close(found.states[b], expected.states[0])


@torch.no_grad()
def test_a_frame_that_stands_for_several_is_attended_to_as_they_would_be() -> None:
    model = toy_whisper(FRAMES)
    x, positions = torch.randn(2, 4, 16).double(), torch.randn(2, 4, 16).double()
    counts = torch.tensor([[1, 3, 2, 1], [2, 1, 4, 0]])
    few = model.encoder.memory_of(x, positions, counts)
    assert few.lengths.tolist() == [4, 3]
    tokens = torch.tensor([[SOT, 1, 3]])
    log_probs = model.decoder(few, tokens.expand(2, -1))
    for b, repeats in enumerate(counts):
        many = [each[b].repeat_interleave(repeats, dim=0)[None] for each in (x, positions)]
        all_of_them = model.encoder.memory_of(*many, torch.ones(1, int(repeats.sum()), dtype=torch.bool))
        assert all_of_them.counts is None
        torch.testing.assert_close(
            few.states[b, : few.lengths[b]].repeat_interleave(repeats[repeats > 0], dim=0), all_of_them.states[0]
        )
        torch.testing.assert_close(log_probs[b], model.decoder(all_of_them, tokens)[0])


@torch.no_grad()
def test_memories_with_and_without_counts_are_joined() -> None:
    plain = Memory(torch.randn(2, 3, 4), torch.tensor([3, 2]))
    few = Memory(torch.randn(1, 2, 4), torch.tensor([2]), counts=torch.tensor([[1, 5]]))
    joined = Memory.joined([plain, few])
    assert joined.frame_counts.tolist() == [[1, 1, 1], [1, 1, 0], [1, 5, 0]]
    assert joined.rows(2, 3).frame_counts.tolist() == [[1, 5]]
    assert Memory.joined([plain, plain]).counts is None
    assert torch.equal(joined.states[2], F.pad(few.states[0], (0, 0, 0, 1)))


@torch.no_grad()
def test_full_windows_are_themselves() -> None:
    model = toy_whisper(FRAMES)
    source, lengths = toy_features([2 * FRAMES] * 2)
    found, plain = model.encode(source, lengths), model.encoder(source, lengths)
    assert found.counts is None
    assert torch.equal(found.states, plain.states)
    assert torch.equal(found.lengths, plain.lengths)


def test_a_whisper_knows_its_heads_and_its_window() -> None:
    model = toy_whisper(FRAMES)
    assert model.max_frames == FRAMES
    assert model.alignment_heads == [(1, 0), (1, 1)]
