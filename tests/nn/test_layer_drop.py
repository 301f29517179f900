"""Layers left out in training: how often, never all, and not in evaluation."""

from __future__ import annotations

import pytest
import torch
from toy import toy_memory, toy_source

from s2s.errors import UserError
from s2s.models.conformer import ConformerEncoder
from s2s.models.transformer_decoder import TransformerDecoder
from s2s.models.transformer_encoder import TransformerEncoder
from s2s.nn.layer_drop import LayerDrop
from s2s.nn.subsampling import ConvolutionSubsampling


def test_each_layer_is_left_out_as_often_as_p_says_and_one_is_always_kept() -> None:
    torch.manual_seed(0)
    drop = LayerDrop(6, 0.3)
    drawn = torch.tensor([drop.kept() for _ in range(4000)])
    assert (drawn.double().mean(dim=0) - 0.7).abs().max() < 5 * (0.21 / 4000) ** 0.5
    assert all(any(LayerDrop(2, 0.95).kept()) for _ in range(200))


def test_nothing_is_left_out_in_evaluation_or_at_zero() -> None:
    assert LayerDrop(3, 0.9).eval().kept() == [True] * 3
    assert LayerDrop(3, 0.0).kept() == [True] * 3


def test_probabilities_are_checked() -> None:
    with pytest.raises(UserError, match=r"layer_drop=1\.0: expected a probability from 0 to below 1"):
        LayerDrop(2, 1.0)


def without(drop: LayerDrop, left_out: list[int]) -> None:
    """Let it leave out these layers and no others."""
    drop.kept = lambda: [i not in left_out for i in range(drop.num_layers)]  # type: ignore[method-assign]


@pytest.mark.parametrize("kind", ["conformer", "transformer"])
def test_an_encoder_without_a_layer_is_the_one_that_never_had_it(kind: str) -> None:
    def encoder(num_layers: int) -> ConformerEncoder | TransformerEncoder:
        torch.manual_seed(0)
        front = ConvolutionSubsampling(8, 16, 4)
        if kind == "conformer":
            return ConformerEncoder(front, 16, num_layers, 2, 32, 5, layer_drop=0.5).double().eval()
        return TransformerEncoder(front, 16, num_layers, 2, 32, layer_drop=0.5).double().eval()

    whole, shorter = encoder(3), encoder(2)
    state = {
        name: tensor for name, tensor in whole.state_dict().items() if not name.startswith(("blocks.2.", "layers.2."))
    }
    shorter.load_state_dict(state)
    without(whole.layer_drop, [2])
    source, lengths = toy_source([40, 27])
    torch.testing.assert_close(whole(source, lengths).states, shorter(source, lengths).states)


def test_a_decoder_without_a_layer_is_the_one_that_never_had_it() -> None:
    def decoder(num_layers: int) -> TransformerDecoder:
        torch.manual_seed(0)
        return TransformerDecoder(9, 16, 16, num_layers, 2, 32, layer_drop=0.5).double().eval()

    whole, shorter = decoder(3), decoder(2)
    names = {name: name.replace("layers.2.", "layers.1.") for name in whole.state_dict() if "layers.1." not in name}
    shorter.load_state_dict({new: whole.state_dict()[name] for name, new in names.items()})
    without(whole.layer_drop, [1])
    memory, tokens = toy_memory([7, 5]), torch.tensor([[2, 4, 5], [2, 6, 7]])
    torch.testing.assert_close(whole(memory, tokens), shorter(memory, tokens))
