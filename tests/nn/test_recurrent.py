"""The bidirectional LSTM against its equations and against torch's, which packs its sequences."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from s2s.nn.recurrent import BidirectionalLSTM, stacked


def layer() -> BidirectionalLSTM:
    torch.manual_seed(0)
    return BidirectionalLSTM(4, 3).double()


def written_out(x: Tensor, lstm: nn.LSTM) -> list[Tensor]:
    """x (T,D); gates in torch's order: input, forget, cell, output."""
    hidden, cell, results = torch.zeros(3).double(), torch.zeros(3).double(), []
    for frame in x:
        gates = lstm.weight_ih_l0 @ frame + lstm.bias_ih_l0 + lstm.weight_hh_l0 @ hidden + lstm.bias_hh_l0
        i, f, g, o = gates[:3].sigmoid(), gates[3:6].sigmoid(), gates[6:9].tanh(), gates[9:].sigmoid()
        cell = f * cell + i * g
        hidden = o * cell.tanh()
        results.append(hidden)
    return results


@pytest.mark.parametrize("padding", [0.0, 3.0, float("nan")])
def test_each_direction_is_an_lstm_over_the_utterance_alone(padding: float) -> None:
    model, lengths = layer(), [5, 1, 3]
    x = torch.full((3, 7, 4), padding).double()
    for b, length in enumerate(lengths):
        x[b, :length] = torch.randn(length, 4).double()
    found = model(x, torch.tensor(lengths))
    for b, length in enumerate(lengths):
        ahead = written_out(x[b, :length], model.forwards)
        back = written_out(x[b, :length].flip(0), model.backwards)[::-1]
        expected = torch.stack([torch.cat(pair) for pair in zip(ahead, back, strict=True)])
        torch.testing.assert_close(found[b, :length], expected)


@given(lengths=st.lists(st.integers(1, 12), min_size=1, max_size=4), more=st.integers(0, 3))
@settings(max_examples=15)
def test_it_equals_torchs_own_over_packed_sequences(lengths: list[int], more: int) -> None:
    model, theirs = layer(), nn.LSTM(4, 3, batch_first=True, bidirectional=True).double()
    own = {**model.forwards.state_dict()}
    theirs.load_state_dict(own | {f"{k}_reverse": v for k, v in model.backwards.state_dict().items()})
    x, size = torch.randn(len(lengths), max(lengths) + more, 4).double(), max(lengths) + more
    packed = pack_padded_sequence(x, torch.tensor(lengths), batch_first=True, enforce_sorted=False)
    expected, _ = pad_packed_sequence(theirs(packed)[0], batch_first=True, total_length=size)
    found = model(x, torch.tensor(lengths))
    for b, length in enumerate(lengths):
        torch.testing.assert_close(found[b, :length], expected[b, :length])


@pytest.mark.parametrize(("frames", "size"), [(6, 2), (7, 2), (7, 3), (1, 4), (5, 1), (0, 2)])
def test_stacked_frames_stand_side_by_side(frames: int, size: int) -> None:
    x = torch.arange(2.0 * frames * 3).view(2, frames, 3) + 1
    found = stacked(x, size)
    assert found.shape == (2, -(-frames // size), size * 3)
    for t in range(frames):
        assert torch.equal(found[:, t // size, t % size * 3 :][:, :3], x[:, t])
    assert found.count_nonzero() == x.numel()
