from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from s2s.errors import UserError
from s2s.nn.attention.attention import Attention
from s2s.nn.attention.multi_head import MultiHead
from s2s.nn.lengths import valid_mask
from s2s.nn.positions import sinusoidal


def test_multi_head_attention_equals_torch() -> None:
    torch.manual_seed(0)
    ours, theirs = (
        Attention(12, 3, over_memory=True).double(),
        torch.nn.MultiheadAttention(12, 3, batch_first=True).double(),
    )
    heads = ours.heads
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([heads.query.weight, heads.key.weight, heads.value.weight]))
        theirs.in_proj_bias.copy_(torch.cat([heads.query.bias, heads.key.bias, heads.value.bias]))
        theirs.out_proj.load_state_dict(heads.out.state_dict())
    query, memory = torch.randn(2, 4, 12).double(), torch.randn(2, 7, 12).double()
    valid = valid_mask(torch.tensor([7, 3]), 7)
    result, weights = ours.over(query, ours.project(memory), valid[:, None, None, :], need_weights=True)
    expected, expected_weights = theirs(query, memory, memory, key_padding_mask=~valid, average_attn_weights=False)
    torch.testing.assert_close(result, expected)
    torch.testing.assert_close(weights, expected_weights)


@given(num_frames=st.integers(1, 9), block_size=st.integers(1, 10), seed=st.integers(0, 1000))
def test_relative_attention_equals_its_equation_for_any_block_size(num_frames: int, block_size: int, seed: int) -> None:
    torch.manual_seed(seed)
    layer = Attention(8, 2, positions="relative", block_size=block_size).double()
    scheme = layer.scheme
    torch.nn.init.normal_(scheme.content_bias)
    torch.nn.init.normal_(scheme.position_bias)
    x = torch.randn(1, num_frames, 8).double()
    heads = layer.heads
    query, key, value = heads.query(x)[0], heads.key(x)[0], heads.value(x)[0]
    expected = torch.zeros(num_frames, 8).double()
    for head in range(2):
        part = slice(4 * head, 4 * head + 4)
        u, v = scheme.content_bias[head, 0], scheme.position_bias[head, 0]
        for i in range(num_frames):
            scores = []
            for j in range(num_frames):
                offset = scheme.projection(sinusoidal(torch.tensor([i - j]), 8).double())[0, part]
                scores.append(((query[i, part] + u) @ key[j, part] + (query[i, part] + v) @ offset) / math.sqrt(4))
            expected[i, part] = torch.stack(scores).softmax(0) @ value[:, part]
    found = layer.within(x)
    torch.testing.assert_close(found[0], heads.out(expected))


@pytest.mark.parametrize("block_size", [2, 512])
def test_frames_past_the_end_are_never_attended_to(block_size: int) -> None:
    torch.manual_seed(0)
    layer = Attention(8, 2, positions="relative", block_size=block_size)
    x, valid = torch.randn(1, 6, 8), valid_mask(torch.tensor([4]), 6)
    mask = valid[:, None, None, :]
    changed = x.clone()
    changed[:, 4:] = 1e4
    assert torch.equal(layer.within(x, mask)[:, :4], layer.within(changed, mask)[:, :4])
    torch.testing.assert_close(layer.within(x, mask)[:, :4], layer.within(x[:, :4]))


def test_a_width_that_does_not_divide_into_heads_is_refused() -> None:
    with pytest.raises(UserError, match=r"model_dim=10 .* num_heads=4"):
        MultiHead(10, 4)
