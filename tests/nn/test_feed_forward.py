from __future__ import annotations

import copy

import pytest
import torch
from toy import toy_memory

from s2s.errors import UserError
from s2s.models.transformer_decoder import TransformerDecoder
from s2s.nn.feed_forward import FeedForward, Shared
from s2s.nn.frames import Whole
from s2s.nn.transformer import TransformerLayer

ALL = Whole(torch.ones(2, 5, dtype=torch.bool), None)


def test_a_feed_forward_is_two_linear_layers() -> None:
    torch.manual_seed(0)
    layer = FeedForward(4, 6, 0.5, torch.nn.ReLU()).double().eval()
    for x in torch.randn(3, 4).double():
        hidden = torch.clamp(layer.expand.weight @ x + layer.expand.bias, min=0.0)
        torch.testing.assert_close(layer(x), layer.contract.weight @ hidden + layer.contract.bias)


@pytest.mark.parametrize("size", [0, -1])
def test_a_feed_forward_of_no_size_is_refused(size: int) -> None:
    with pytest.raises(UserError, match=f"feed_forward_dim={size}: expected at least 1"):
        FeedForward(4, size, 0.0, torch.nn.ReLU())
    if size < 0:
        with pytest.raises(UserError, match=f"feed_forward_dim={size}: expected at least 1"):
            TransformerLayer(4, 2, size, 0.0)


@pytest.mark.parametrize("pre_norm", [True, False])
def test_a_layer_with_a_shared_feed_forward_is_one_that_has_the_same(pre_norm: bool) -> None:
    torch.manual_seed(0)
    own = TransformerLayer(8, 2, 12, 0.0, over_memory=False, pre_norm=pre_norm).double()
    assert isinstance(own.feed_forward, FeedForward)
    ours = TransformerLayer(
        8, 2, 12, 0.0, over_memory=False, pre_norm=pre_norm, instead=Shared(own.feed_forward)
    ).double()
    stored = {name: weight for name, weight in own.state_dict().items() if not name.startswith("feed_forward.")}
    ours.load_state_dict(stored)  # it stores all but the feed-forward
    x = torch.randn(2, 5, 8).double()
    torch.testing.assert_close(ours(x, ALL.attend)[0], own(x, ALL.attend)[0])


@pytest.mark.parametrize("pre_norm", [True, False])
def test_a_layer_without_feed_forward_ends_after_attention(pre_norm: bool) -> None:
    torch.manual_seed(0)
    layer = TransformerLayer(8, 2, 0, 0.0, over_memory=False, pre_norm=pre_norm).double()
    assert not [name for name in layer.state_dict() if "feed_forward" in name]
    x = torch.randn(2, 5, 8).double()
    if pre_norm:
        expected = x + layer.self_attention.within(layer.norm_self(x))
    else:
        expected = layer.norm_self(x + layer.self_attention.within(x))
    torch.testing.assert_close(layer(x, ALL.attend)[0], expected)


def test_a_decoder_without_feed_forward_gives_a_token_at_a_time_what_it_gives_at_once() -> None:
    torch.manual_seed(0)
    model, memory = TransformerDecoder(7, 16, 16, 2, 2, 0).double().eval(), toy_memory([5, 3])
    tokens = torch.tensor([[2, 4, 5, 6], [2, 6, 6, 4]])
    expected, state = model(memory, tokens), model.start(memory, 1)
    for position in range(4):
        found, state = model.step(tokens[:, position], state)
        torch.testing.assert_close(found, expected[:, position])


def test_a_copy_of_a_model_shares_its_own_feed_forward() -> None:
    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.feed_forward = FeedForward(4, 6, 0.0, torch.nn.ReLU())
            self.shared = Shared(self.feed_forward)

    model = Model()
    other = copy.deepcopy(model)
    assert other.shared.feed_forward is other.feed_forward is not model.feed_forward
