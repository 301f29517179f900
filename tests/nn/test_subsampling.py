from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from s2s.errors import UserError
from s2s.nn.subsampling import ConvolutionFront, ConvolutionSubsampling


@given(lengths=st.lists(st.integers(0, 40), min_size=1, max_size=4), more=st.integers(0, 20))
@pytest.mark.parametrize("padding", [0.0, 7.0, float("nan")])
def test_an_utterance_gives_the_same_frames_alone_and_padded(padding: float, lengths: list[int], more: int) -> None:
    torch.manual_seed(0)
    layer = ConvolutionSubsampling(10, 6, 4, 0.0).double()
    sources = [torch.randn(length, 10).double() for length in lengths]
    batch = torch.full((len(lengths), max(lengths) + more, 10), padding).double()
    for row, source in zip(batch, sources, strict=True):
        row[: len(source)] = source
    frames, frame_lengths = layer(batch, torch.tensor(lengths))
    assert frame_lengths.max() <= frames.size(1)
    for row, length, source in zip(frames, frame_lengths.tolist(), sources, strict=True):
        alone, alone_length = layer(source.unsqueeze(0), torch.tensor([len(source)]))
        assert alone_length.tolist() == [length]
        torch.testing.assert_close(row[:length], alone[0, :length])


def test_lengths_count_the_frames_that_come_out() -> None:
    layer = ConvolutionSubsampling(10, 6, 4, 0.0)
    for length in range(7, 60):
        frames, lengths = layer(torch.randn(1, length, 10), torch.tensor([length]))
        assert frames.size(1) == lengths.item()


def test_too_few_bins_are_refused() -> None:
    with pytest.raises(UserError, match="input_dim=6"):
        ConvolutionSubsampling(6, 8, 4, 0.0)


@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=4), more=st.integers(0, 5))
@pytest.mark.parametrize("padding", [0.0, 7.0, float("nan")])
def test_the_front_of_whisper_gives_an_utterance_the_same_frames_alone_and_padded(
    padding: float, lengths: list[int], more: int
) -> None:
    torch.manual_seed(0)
    front = ConvolutionFront(10, 6).double()
    sources = [torch.randn(length, 10).double() for length in lengths]
    batch = torch.full((len(lengths), max(lengths) + more, 10), padding).double()
    for row, source in zip(batch, sources, strict=True):
        row[: len(source)] = source
    frames, frame_lengths = front(batch, torch.tensor(lengths))
    assert frame_lengths.tolist() == [math.ceil(length / 2) for length in lengths]
    assert frames.isfinite().all()
    for row, length, source in zip(frames, frame_lengths.tolist(), sources, strict=True):
        alone, alone_length = front(source.unsqueeze(0), torch.tensor([len(source)]))
        assert alone_length.tolist() == [alone.size(1)] == [length]
        torch.testing.assert_close(row[:length], alone[0])


@pytest.mark.parametrize("length", [1, 2, 3, 8, 9])
def test_the_front_of_whisper_is_two_convolutions(length: int) -> None:
    torch.manual_seed(0)
    front = ConvolutionFront(10, 6)
    assert front.subsampling_factor == 2
    source = torch.randn(1, length, 10)
    (first, first_bias), (second, second_bias) = ((c.weight, c.bias) for c in front.convolutions)
    padded = torch.cat((torch.zeros(1, 10), source[0], torch.zeros(1, 10)))
    hidden = [F.gelu(sum(padded[t + i] @ first[:, :, i].T for i in range(3)) + first_bias) for t in range(length)]
    hidden = [torch.zeros(6), *hidden, torch.zeros(6), torch.zeros(6)]
    expected = [
        F.gelu(sum(hidden[t + i] @ second[:, :, i].T for i in range(3)) + second_bias) for t in range(0, length, 2)
    ]
    torch.testing.assert_close(front(source, torch.tensor([length]))[0][0], torch.stack(expected))
