"""Recurrent layers that read a whole sequence."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from s2s.nn.lengths import right_to_left


class BidirectionalLSTM(nn.Module):
    """An LSTM from left to right beside one from right to left (Graves & Schmidhuber 2005): (B,T,D) -> (B,T,2d).

    Each utterance is turned round within its own length, so neither reads padding before a real frame. Packed sequences
    would do that too, but they cannot be exported.
    """

    def __init__(self, input_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.forwards = nn.LSTM(input_dim, hidden_dim, batch_first=True)
        self.backwards = nn.LSTM(input_dim, hidden_dim, batch_first=True)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """x (B,T,D), lengths (B,) -> (B,T,2d)"""
        backwards = right_to_left(self.backwards(right_to_left(x, lengths))[0], lengths)
        return torch.cat((self.forwards(x)[0], backwards), dim=-1)


def stacked(x: Tensor, size: int) -> Tensor:
    """Every `size` frames as one: (B,T,D) -> (B,T/size,size D), T/size rounded up, zeros for frames there are not.

    The pyramid of Chan et al. 2016 ("Listen, Attend and Spell", arXiv:1508.01211, eq. 5).
    """
    return F.pad(x, (0, 0, 0, -x.size(1) % size)).unflatten(1, (-1, size)).flatten(2)
