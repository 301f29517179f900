from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from s2s.errors import UserError
from s2s.nn.subsampling import ConvolutionFront, ConvolutionSubsampling

FORMS = [(1, False), (2, False), (4, False), (4, True), (8, False), (8, True)]


def subsampling(factor: int, separable: bool = False, bins: int = 18) -> ConvolutionSubsampling:
    torch.manual_seed(0)
    layer = ConvolutionSubsampling(bins, 6, 4, 0.0, factor, separable).double()
    for parameter in layer.parameters():
        if parameter.dim() == 1:
            nn.init.normal_(parameter)
    return layer


@given(
    lengths=st.lists(st.integers(0, 70), min_size=1, max_size=4), more=st.integers(0, 20), form=st.sampled_from(FORMS)
)
@pytest.mark.parametrize("padding", [0.0, 7.0, float("nan")])
def test_an_utterance_gives_the_same_frames_alone_and_padded(
    padding: float, lengths: list[int], more: int, form: tuple[int, bool]
) -> None:
    layer = subsampling(*form)
    sources = [torch.randn(length, 18).double() for length in lengths]
    batch = torch.full((len(lengths), max(lengths) + more, 18), padding).double()
    for row, source in zip(batch, sources, strict=True):
        row[: len(source)] = source
    frames, frame_lengths = layer(batch, torch.tensor(lengths))
    assert frame_lengths.max() <= frames.size(1)
    for row, length, source in zip(frames, frame_lengths.tolist(), sources, strict=True):
        alone, alone_length = layer(source.unsqueeze(0), torch.tensor([len(source)]))
        assert alone_length.tolist() == [length] == [alone.size(1)]
        torch.testing.assert_close(row[:length], alone[0])


@given(length=st.integers(0, 100), form=st.sampled_from(FORMS), bins=st.integers(1, 30))
@settings(max_examples=15)
def test_lengths_count_the_frames_that_come_out(length: int, form: tuple[int, bool], bins: int) -> None:
    layer = subsampling(*form, bins)
    frames, lengths = layer(torch.randn(1, length, bins).double(), torch.tensor([length]))
    assert frames.size(1) == lengths.item() == layer.output_lengths(torch.tensor(length)) >= 1
    assert layer.subsampling_factor == form[0]


@pytest.mark.parametrize("length", [15, 22, 23, 31])
def test_fast_conformer_has_a_convolution_and_two_separable_ones(length: int) -> None:
    layer = subsampling(8, separable=True)
    source = torch.randn(length, 18).double()
    first, _, *others = layer.convolution
    maps = [source]  # of each channel: frames by bins

    def filtered(x: Tensor, filter_: Tensor) -> Tensor:
        """3x3, every second frame and bin, nothing beyond the edges."""
        places = [[(i, j) for j in range(0, x.size(1) - 2, 2)] for i in range(0, x.size(0) - 2, 2)]
        return torch.stack([torch.stack([(x[i : i + 3, j : j + 3] * filter_).sum() for i, j in row]) for row in places])

    maps = [(filtered(source, first.weight[c, 0]) + first.bias[c]).relu() for c in range(4)]
    for depthwise, pointwise in ((others[0], others[1]), (others[3], others[4])):
        maps = [filtered(x, depthwise.weight[c, 0]) + depthwise.bias[c] for c, x in enumerate(maps)]
        weights = pointwise.weight[:, :, 0, 0]
        mixed = [sum((weights[c, k] * maps[k] for k in range(4)), pointwise.bias[c]) for c in range(4)]
        maps = [x.relu() for x in mixed]
    expected = torch.stack(
        [layer.out.weight @ torch.cat([x[t] for x in maps]) + layer.out.bias for t in range(len(maps[0]))]
    )
    found, lengths = layer(source[None], torch.tensor([length]))
    torch.testing.assert_close(found[0], expected)
    assert lengths.item() == (length - 7) // 8
    assert sum(p.numel() for p in layer.convolution.parameters()) < sum(
        p.numel() for p in subsampling(8).convolution.parameters()
    )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("length", [40, 79, 80, 100])
def test_a_long_utterance_is_subsampled_in_blocks(form: tuple[int, bool], length: int) -> None:
    layer, source = subsampling(*form), torch.randn(1, length, 18).double()
    expected, lengths = layer(source, torch.tensor([length]))
    layer.block_size = 3
    found, _ = layer(source, torch.tensor([length]))
    assert found.size(1) == lengths.item() > 3
    torch.testing.assert_close(found, expected)


def test_a_factor_of_one_is_a_linear_layer() -> None:
    layer = subsampling(1)
    source = torch.randn(1, 9, 18).double()
    torch.testing.assert_close(layer(source, torch.tensor([9]))[0], layer.out(source))


@pytest.mark.parametrize("factor", [0, -4, 3, 6])
def test_a_factor_that_is_no_power_of_two_is_refused(factor: int) -> None:
    with pytest.raises(UserError, match=f"factor={factor}: expected a power of two"):
        ConvolutionSubsampling(18, 8, 4, 0.0, factor)


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
