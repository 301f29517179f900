"""The Transformer layer against torch's own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from s2s.errors import UserError
from s2s.nn.frames import Whole
from s2s.nn.lengths import valid_mask
from s2s.nn.transformer import TransformerLayer, activation_module, before

OPTIONS = [(activation, pre_norm) for activation in ("relu", "gelu") for pre_norm in (True, False)]


def copy_attention(ours: nn.Module, theirs: nn.MultiheadAttention) -> None:
    heads = ours.heads
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([heads.query.weight, heads.key.weight, heads.value.weight]))
        theirs.in_proj_bias.copy_(torch.cat([heads.query.bias, heads.key.bias, heads.value.bias]))
        theirs.out_proj.load_state_dict(heads.out.state_dict())


def layer(over_memory: bool, activation: str = "relu", pre_norm: bool = True) -> TransformerLayer:
    torch.manual_seed(0)
    ours = TransformerLayer(12, 3, 20, 0.0, over_memory, activation, pre_norm).double().eval()
    for parameter in ours.parameters():
        if parameter.dim() == 1:
            nn.init.normal_(parameter)
    return ours


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize(("activation", "pre_norm"), OPTIONS)
def test_a_layer_of_an_encoder_equals_that_of_torch(activation: str, pre_norm: bool) -> None:
    ours = layer(False, activation, pre_norm)
    theirs = nn.TransformerEncoderLayer(12, 3, 20, 0.0, activation, batch_first=True, norm_first=pre_norm)
    theirs = theirs.double()
    copy_attention(ours.self_attention, theirs.self_attn)
    for mine, other in (("expand", "linear1"), ("contract", "linear2")):
        getattr(theirs, other).load_state_dict(getattr(ours.feed_forward, mine).state_dict())
    theirs.norm1.load_state_dict(ours.norm_self.state_dict())
    theirs.norm2.load_state_dict(ours.norm_feed_forward.state_dict())
    x, valid = random(2, 5, 12), valid_mask(torch.tensor([5, 3]), 5)
    found, weights = ours(x, Whole(valid, valid[:, None, None, :]).attend)
    assert weights is None
    torch.testing.assert_close(found[valid], theirs(x, src_key_padding_mask=~valid)[valid])


@pytest.mark.parametrize(("activation", "pre_norm"), OPTIONS)
def test_a_layer_of_a_decoder_equals_that_of_torch(activation: str, pre_norm: bool) -> None:
    ours = layer(True, activation, pre_norm)
    theirs = nn.TransformerDecoderLayer(12, 3, 20, 0.0, activation, batch_first=True, norm_first=pre_norm)
    theirs = theirs.double()
    copy_attention(ours.self_attention, theirs.self_attn)
    copy_attention(ours.memory_attention, theirs.multihead_attn)
    for mine, other in (("expand", "linear1"), ("contract", "linear2")):
        getattr(theirs, other).load_state_dict(getattr(ours.feed_forward, mine).state_dict())
    for mine, other in (("norm_self", "norm1"), ("norm_memory", "norm2"), ("norm_feed_forward", "norm3")):
        getattr(theirs, other).load_state_dict(getattr(ours, mine).state_dict())
    x, states, valid = random(2, 4, 12), random(2, 6, 12), valid_mask(torch.tensor([6, 2]), 6)
    memory = ours.memory_attention.project(states)
    found, _ = ours(x, before, memory, valid[:, None, None, :])
    causal = nn.Transformer.generate_square_subsequent_mask(4, dtype=torch.float64)
    expected = theirs(x, states, tgt_mask=causal, memory_key_padding_mask=~valid)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("pre_norm", [True, False])
def test_several_rows_of_an_utterance_attend_to_its_memory_as_if_each_had_its_own(pre_norm: bool) -> None:
    ours = layer(True, pre_norm=pre_norm)
    x, states, valid = random(6, 4, 12), random(2, 5, 12), valid_mask(torch.tensor([5, 2]), 5)
    project = ours.memory_attention.project
    found, weights = ours(x, before, project(states), valid[:, None, None, :], need_weights=True)
    each, mask = states.repeat_interleave(3, 0), valid.repeat_interleave(3, 0)
    expected, expected_weights = ours(x, before, project(each), mask[:, None, None, :], need_weights=True)
    torch.testing.assert_close(found, expected)
    assert weights is not None
    rows = weights.unflatten(2, (3, 4)).transpose(1, 2).flatten(0, 1)  # (B,H,A/B*U,T) -> (A,H,U,T)
    torch.testing.assert_close(rows, expected_weights)
    torch.testing.assert_close(ours(x, before, project(states), valid[:, None, None, :])[0], found)


def test_activations_have_their_names() -> None:
    x = torch.linspace(-3, 3, 7)
    for name, function in (("relu", torch.relu), ("gelu", nn.functional.gelu), ("silu", nn.functional.silu)):
        torch.testing.assert_close(activation_module(name)(x), function(x))
    with pytest.raises(UserError, match=r"activation=gellu: expected relu, gelu, silu\. Did you mean 'gelu'"):
        activation_module("gellu")
