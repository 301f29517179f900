from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from s2s.errors import UserError
from s2s.nn.attention.scores import key_bias
from s2s.nn.conformer import ConformerBlock, ConvolutionModule
from s2s.nn.frames import Whole
from s2s.nn.lengths import valid_mask


@pytest.mark.parametrize("padding", [0.0, 5.0, float("nan")])
@pytest.mark.parametrize("more", [0, 1, 9])
def test_convolution_does_not_see_past_the_end(padding: float, more: int) -> None:
    torch.manual_seed(0)
    layer = ConvolutionModule(6, 5, 0.0).double()
    x = torch.randn(1, 4, 6).double()
    padded = F.pad(x, (0, 0, 0, more), value=padding)
    alone = layer(x, Whole(valid_mask(torch.tensor([4]), 4), None))
    together = layer(padded, Whole(valid_mask(torch.tensor([4]), 4 + more), None))[:, :4]
    torch.testing.assert_close(together, alone)


def test_a_block_equals_the_same_sum_written_out() -> None:
    torch.manual_seed(0)
    block = ConformerBlock(8, 2, 16, 3, 0.1).eval().double()
    x, valid = torch.randn(2, 5, 8).double(), valid_mask(torch.tensor([5, 3]), 5)

    def normed(name: str, y: torch.Tensor) -> torch.Tensor:
        norm = getattr(block, f"norm_{name}")
        return F.layer_norm(y, (8,), norm.weight, norm.bias)

    y = x + block.feed_forward_in(normed("feed_forward_in", x)) / 2
    y = y + block.attention.within(normed("attention", y), valid[:, None, None, :])
    y = y + block.convolution(normed("convolution", y), Whole(valid, None))
    y = y + block.feed_forward_out(normed("feed_forward_out", y)) / 2
    torch.testing.assert_close(
        block(x, Whole(valid, key_bias(valid, x))), F.layer_norm(y, (8,), block.norm.weight, block.norm.bias)
    )


@pytest.mark.parametrize(("size", "use"), [(4, 5), (0, 1), (-3, 1)])
def test_a_kernel_without_a_middle_frame_is_refused(size: int, use: int) -> None:
    with pytest.raises(UserError, match=f"kernel_size={size}: expected an odd number, .* use {use}"):
        ConvolutionModule(6, size, 0.0)
