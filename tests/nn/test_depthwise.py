from __future__ import annotations

import pytest
import torch

from s2s.nn.depthwise import DepthwiseConvolution
from s2s.nn.lengths import valid_mask


@pytest.mark.parametrize("size", [1, 3, 7])
@pytest.mark.parametrize("padding", [0.0, 5.0, float("nan")])
def test_each_channel_is_filtered_on_its_own_and_sees_zeros_past_the_end(size: int, padding: float) -> None:
    torch.manual_seed(0)
    layer, lengths = DepthwiseConvolution(3, size).double(), [5, 2, 0]
    x = torch.randn(3, 5, 3).double()
    for b, length in enumerate(lengths):
        x[b, length:] = padding
    found = layer(x, valid_mask(torch.tensor(lengths), 5))
    for b, length in enumerate(lengths):
        for t in range(length):
            for c in range(3):
                expected = layer.bias[c].clone()  # type: ignore[index]
                for i in range(size):
                    if 0 <= t + i - size // 2 < length:
                        expected += layer.weight[c, 0, i] * x[b, t + i - size // 2, c]
                torch.testing.assert_close(found[b, t, c], expected)
