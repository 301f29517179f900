"""E-Branchformer against its equations, written out a frame, a channel and a head at a time."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from s2s.errors import UserError
from s2s.nn.attention.scores import key_bias
from s2s.nn.branchformer import BranchformerBlock, ConvolutionalGating
from s2s.nn.frames import Whole
from s2s.nn.lengths import valid_mask


def normed(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    """x (D,)"""
    mean, variance = x.mean(), ((x - x.mean()) ** 2).mean()
    return (x - mean) / torch.sqrt(variance + 1e-5) * norm.weight + norm.bias


def linear(x: Tensor, layer: nn.Linear) -> Tensor:
    return layer.weight @ x + layer.bias


def filtered(x: list[Tensor], layer: nn.Conv1d) -> list[Tensor]:
    """A filter for each channel over frames x, zeros around them."""
    size = layer.weight.size(-1)
    return [
        sum(
            (layer.weight[:, 0, i] * x[t + i - size // 2] for i in range(size) if 0 <= t + i - size // 2 < len(x)),
            layer.bias,
        )
        for t in range(len(x))
    ]


def gated(x: list[Tensor], layer: ConvolutionalGating) -> list[Tensor]:
    """Z = GELU(XU); [A B] = Z; (A ⊙ DwConv(LN(B))) V"""
    z = [linear(frame, layer.expand) for frame in x]
    z = [frame * (1 + torch.erf(frame / math.sqrt(2))) / 2 for frame in z]
    half = len(z[0]) // 2
    gate = filtered([normed(frame[half:], layer.norm) for frame in z], layer.depthwise)
    return [linear(frame[:half] * g, layer.contract) for frame, g in zip(z, gate, strict=True)]


def attended(x: list[Tensor], block: BranchformerBlock) -> list[Tensor]:
    """Multi-head self-attention without positions."""
    heads = block.attention.heads
    queries, keys, values = ([linear(frame, getattr(heads, part)) for frame in x] for part in ("query", "key", "value"))
    results = []
    for query in queries:
        parts = []
        for h in range(heads.num_heads):
            own = slice(h * heads.head_dim, (h + 1) * heads.head_dim)
            scores = torch.stack([query[own] @ key[own] for key in keys]) / math.sqrt(heads.head_dim)
            weights = scores.exp() / scores.exp().sum()
            parts.append(sum(w * value[own] for w, value in zip(weights, values, strict=True)))
        results.append(linear(torch.cat(parts), heads.out))  # type: ignore[arg-type]
    return results


def fed_forward(x: Tensor, layer: nn.Module) -> Tensor:
    hidden = linear(x, layer.expand)  # type: ignore[arg-type]
    return linear(hidden / (1 + (-hidden).exp()), layer.contract)  # type: ignore[arg-type]


def written_out(x: list[Tensor], block: BranchformerBlock) -> list[Tensor]:
    """Kim et al. 2022, section 3: Y_C = [Y_G Y_L], Y_merge = (Y_C + DwConv(Y_C)) W, between half feed-forwards."""
    x = [y + fed_forward(normed(y, block.norm_feed_forward_in), block.feed_forward_in) / 2 for y in x]  # type: ignore[arg-type]
    y_global = attended([normed(y, block.norm_attention) for y in x], block)
    y_local = gated([normed(y, block.norm_gating) for y in x], block.gating)
    y_both = [torch.cat(pair) for pair in zip(y_global, y_local, strict=True)]
    merged = [linear(y + z, block.merge) for y, z in zip(y_both, filtered(y_both, block.depthwise), strict=True)]
    x = [y + z for y, z in zip(x, merged, strict=True)]
    x = [y + fed_forward(normed(y, block.norm_feed_forward_out), block.feed_forward_out) / 2 for y in x]  # type: ignore[arg-type]
    return [normed(y, block.norm) for y in x]


def random_block() -> BranchformerBlock:
    torch.manual_seed(0)
    block = BranchformerBlock(8, 2, 12, 10, 3, 0.1, positions="none").double().eval()
    for parameter in block.parameters():
        if parameter.dim() != 2:
            nn.init.normal_(parameter)
    return block


@pytest.mark.parametrize("padding", [0.0, 1e3, -1e6])
def test_a_block_is_what_the_paper_says_and_sees_no_padding(padding: float) -> None:
    block, lengths = random_block(), torch.tensor([6, 3, 1])
    x, valid = torch.randn(3, 6, 8).double(), valid_mask(torch.tensor([6, 3, 1]), 6)
    padded = x.masked_fill(~valid.unsqueeze(-1), padding)
    found = block(padded, Whole(valid, key_bias(valid, x)))
    for b, length in enumerate(lengths.tolist()):
        expected = torch.stack(written_out(list(x[b, :length]), block))
        torch.testing.assert_close(found[b, :length], expected)


@pytest.mark.parametrize("padding", [0.0, 5.0, float("nan")])
def test_gating_does_not_see_past_the_end(padding: float) -> None:
    layer = random_block().gating
    x, valid = torch.full((2, 5, 8), padding).double(), valid_mask(torch.tensor([4, 2]), 5)
    x[valid] = torch.randn(6, 8).double()
    found = layer(x, Whole(valid, None))
    for b, length in enumerate((4, 2)):
        torch.testing.assert_close(found[b, :length], torch.stack(gated(list(x[b, :length]), layer)))


def test_gating_begins_as_a_plain_mlp() -> None:
    layer = ConvolutionalGating(8, 10, 3, 0.1).double().eval()
    x = torch.randn(1, 5, 8).double()
    kept = nn.functional.gelu(layer.expand(x))[..., :5]
    torch.testing.assert_close(
        layer(x, Whole(torch.ones(1, 5).bool(), None)), layer.contract(kept), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("size", [0, 7, -2])
def test_a_width_that_has_no_halves_is_refused(size: int) -> None:
    with pytest.raises(UserError, match=f"gating_dim={size}: expected an even number"):
        ConvolutionalGating(8, size, 3, 0.0)
