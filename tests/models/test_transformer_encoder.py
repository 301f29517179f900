"""The Transformer encoder in all its forms: over features and over text."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from s2s.errors import UserError
from s2s.models.build import build
from s2s.models.transformer_encoder import TransformerEncoder
from s2s.nn.embedding import TokenFront
from s2s.nn.positions import sinusoidal
from s2s.nn.subsampling import ConvolutionFront

OPTIONS = [
    {"positions": "learned" if positions else "sinusoidal", "max_positions": positions}
    | {"pre_norm": pre_norm, "final_norm": pre_norm, "norm_embedding": not pre_norm}
    | {"activation": activation}
    for positions, pre_norm, activation in product((0, 30), (True, False), ("relu", "gelu"))
]


def encoder(front: nn.Module, **options: object) -> TransformerEncoder:
    torch.manual_seed(0)
    return TransformerEncoder(front, 16, 2, 4, 24, **options).double().eval()  # type: ignore[arg-type]


def sources(lengths: list[int], text: bool) -> list[Tensor]:
    generators = [torch.Generator().manual_seed(i) for i in range(len(lengths))]
    if text:
        return [torch.randint(9, (n,), generator=g) for n, g in zip(lengths, generators, strict=True)]
    return [torch.randn(n, 5, generator=g).double() for n, g in zip(lengths, generators, strict=True)]


@pytest.mark.parametrize("text", [True, False])
@given(
    lengths=st.lists(st.integers(1, 25), min_size=1, max_size=4),
    more=st.integers(0, 5),
    options=st.sampled_from(OPTIONS),
)
@settings(max_examples=15)
def test_an_utterance_gives_the_same_states_alone_and_padded(
    text: bool, lengths: list[int], more: int, options: dict[str, object]
) -> None:
    model = encoder(TokenFront(9, 16) if text else ConvolutionFront(5, 16), **options)
    alone = sources(lengths, text)
    shape = (len(lengths), max(lengths) + more)
    batch = torch.full(shape, 7) if text else torch.full((*shape, 5), float("nan")).double()
    for row, source in zip(batch, alone, strict=True):
        row[: len(source)] = source
    together = model(batch, torch.tensor(lengths))
    assert torch.equal(together.lengths, model.output_lengths(torch.tensor(lengths)))
    for states, length, source in zip(together.states, together.lengths.tolist(), alone, strict=True):
        memory = model(source.unsqueeze(0), torch.tensor([len(source)]))
        assert memory.states.shape == (1, length, 16)
        torch.testing.assert_close(states[:length], memory.states[0])


@pytest.mark.parametrize("options", OPTIONS[::2])
def test_an_encoder_is_its_front_positions_and_layers(options: dict[str, object]) -> None:
    model = encoder(TokenFront(9, 16), **options)
    tokens, lengths = torch.tensor([[4, 8, 1, 0]]), torch.tensor([4])
    positions = sinusoidal(torch.arange(4), 16) if model.positions.weight is None else model.positions.weight[:4]
    x = 4.0 * model.front.embedding.weight[tokens] + positions.double()  # type: ignore[union-attr, index]
    if options["norm_embedding"]:
        x = nn.functional.layer_norm(x, (16,))
    for layer in model.layers:
        theirs = nn.TransformerEncoderLayer(16, 4, 24, 0.0, batch_first=True, norm_first=bool(options["pre_norm"]))
        theirs, heads = theirs.double(), layer.self_attention.heads
        with torch.no_grad():
            theirs.self_attn.in_proj_weight.copy_(torch.cat([heads.query.weight, heads.key.weight, heads.value.weight]))
            theirs.self_attn.in_proj_bias.copy_(torch.cat([heads.query.bias, heads.key.bias, heads.value.bias]))
        theirs.self_attn.out_proj.load_state_dict(heads.out.state_dict())
        theirs.linear1.load_state_dict(layer.feed_forward.expand.state_dict())
        theirs.linear2.load_state_dict(layer.feed_forward.contract.state_dict())
        x = theirs(x)
    expected = nn.functional.layer_norm(x, (16,)) if options["final_norm"] else x
    torch.testing.assert_close(model(tokens, lengths).states, expected)


def test_a_source_that_is_longer_than_the_learned_positions_is_refused() -> None:
    model = encoder(ConvolutionFront(5, 16), positions="learned", max_positions=4)
    assert model(torch.zeros(1, 8, 5).double(), torch.tensor([8])).states.size(1) == 4
    with pytest.raises(UserError, match=r"5 positions is too long for this model, which learned 4"):
        model(torch.zeros(1, 9, 5).double(), torch.tensor([9]))


def test_an_encoder_is_built_from_a_config_and_wrong_options_are_refused() -> None:
    front = {"_target_": "s2s.nn.embedding.TokenFront", "vocab_size": 9, "model_dim": 16}
    config = {"_target_": "s2s.models.transformer_encoder.TransformerEncoder", "front": front, "model_dim": 16}
    model = build(config)
    assert isinstance(model, TransformerEncoder)
    assert model.subsampling_factor == 1
    for options, message in (
        ({"activation": "tanh"}, r"activation=tanh: expected relu, gelu, silu"),
        ({"num_heads": 3}, r"model_dim=16 does not divide into num_heads=3"),
        ({"prenorm": True}, r"model\.prenorm: TransformerEncoder has no such key\. Did you mean 'pre_norm'"),
    ):
        with pytest.raises(UserError, match=message):
            build({**config, **options})
