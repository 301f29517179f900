from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from s2s.errors import UserError
from s2s.nn.subsampling import ConvolutionSubsampling


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
