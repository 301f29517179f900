"""Layers of encoders that are fused, given to a decoder, and given to CTC."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from toy import toy_memory, toy_source

from s2s.decoding.ensemble import EnsembleMemory
from s2s.decoding.internal_lm import InternalLMScorer
from s2s.decoding.prompt import PromptedMemory
from s2s.errors import UserError
from s2s.models.build import build
from s2s.models.memory import Memory
from s2s.models.transformer_decoder import TransformerDecoder
from s2s.nn.attention.scores import key_bias
from s2s.nn.frames import Whole
from s2s.nn.layer_fusion import SurfaceFusionConfig
from s2s.nn.lengths import valid_mask

small = {"model_dim": 16, "num_layers": 4, "num_heads": 2, "feed_forward_dim": 24}
SUBSAMPLING = {"_target_": "s2s.nn.subsampling.ConvolutionSubsampling", "input_dim": 8, "model_dim": 16, "channels": 4}
ENCODERS: dict[str, dict[str, Any]] = {
    "transformer": {"_target_": "s2s.models.transformer_encoder.TransformerEncoder", "front": SUBSAMPLING, **small},
    "conformer": {"_target_": "s2s.models.conformer.ConformerEncoder", "front": SUBSAMPLING, "kernel_size": 3, **small},
    "branchformer": {
        "_target_": "s2s.models.branchformer.BranchformerEncoder",
        "front": SUBSAMPLING,
        "kernel_size": 3,
        **small,
    },
    "lstm": {
        "_target_": "s2s.models.lstm_encoder.LSTMEncoder",
        "front": SUBSAMPLING,
        "model_dim": 16,
        "num_layers": 4,
    },
}


def encoder(name: str, **options: Any) -> Any:
    torch.manual_seed(0)
    model: Any = build({**ENCODERS[name], **options}).double().eval()
    for parameter_name, parameter in model.named_parameters():
        if parameter_name.startswith(("outputs", "norm")):
            nn.init.normal_(parameter)
    return model


def layer_by_layer(name: str, model: Any, source: Tensor) -> list[Tensor]:
    """What the first layer of an encoder is given of one utterance (1,S,F), and what each layer gives (1,T,D)."""
    x, lengths = model.front(source, torch.tensor([source.size(1)]))
    if name != "lstm":
        x = x + model.positions.first(x.size(1), x.device).double()
    valid, given = valid_mask(lengths, x.size(1)), [x]
    for layer in model.layers if name in ("transformer", "lstm") else model.blocks:
        if name == "transformer":
            x, _ = layer(x, Whole(torch.ones(x.shape[:2], dtype=torch.bool), None).attend)
        else:
            x = layer(x, lengths) if name == "lstm" else layer(x, Whole(valid, key_bias(valid, x)))
        given.append(x)
    return given


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("group_size", [1, 2, 4])
def test_a_memory_is_made_of_the_last_layers_of_groups(name: str, group_size: int) -> None:
    model, (source, lengths) = encoder(name, layer_fusion={"group_size": group_size}), toy_source([40])
    given = layer_by_layer(name, model, source)
    numbers = list(range(group_size, 5, group_size))
    total = torch.zeros_like(given[0])
    for weight, number in zip(model.outputs.groups.weight.tolist(), numbers, strict=True):
        total += given[number] / (1 + math.exp(-weight)) / len(numbers)
    expected = F.layer_norm(total, [16], model.norm.weight, model.norm.bias)
    torch.testing.assert_close(model(source, lengths).states, expected)


@pytest.mark.parametrize("name", ENCODERS)
def test_the_surface_is_what_the_first_layer_is_given_alone_and_in_any_batch(name: str) -> None:
    model, lengths = encoder(name, layer_fusion={"surface": True}), [40, 9, 25]
    source, sizes = toy_source(lengths, padding=float("nan"), more=5)
    memory = model(source, sizes)
    torch.testing.assert_close(memory.states, encoder(name)(source, sizes).states)
    assert memory.layers.keys() == {0}
    for b, length in enumerate(lengths):
        expected = layer_by_layer(name, model, source[b : b + 1, :length])[0]
        torch.testing.assert_close(memory.rows(b, b + 1).layers[0].states, expected)
    assert bool(memory.layers[0].states.isfinite().all())


@pytest.mark.parametrize("name", ENCODERS)
def test_without_options_nothing_is_kept_and_state_dicts_are_as_they_were(name: str) -> None:
    plain, surface = encoder(name), encoder(name, layer_fusion={"surface": True})
    assert plain(*toy_source([40])).layers == {}
    assert list(plain.state_dict()) == list(surface.state_dict())
    assert not [key for key in plain.state_dict() if key.startswith("outputs")]
    new = set(encoder(name, layer_fusion={"group_size": 2}).state_dict()) - set(plain.state_dict())
    assert new == {"outputs.groups.weight"} | (set() if name == "transformer" else {"norm.weight", "norm.bias"})


def test_layers_go_where_their_memory_goes() -> None:
    memories = [toy_memory([5, 2]), toy_memory([7, 1, 3], 1)]
    joined = Memory.joined(memories)
    alone = [memory.rows(b, b + 1) for memory in memories for b in range(len(memory.lengths))]
    ensembles = EnsembleMemory(**vars(joined), others=(joined,))
    prompted = PromptedMemory.of(joined, [[1, 2]] * 5)
    for b, own in enumerate(alone):
        for whole in (joined, ensembles, prompted):
            part = whole.rows(b, b + 1)
            assert type(part) is type(whole)
            assert torch.equal(part.layers[0].states, own.layers[0].states)
            assert torch.equal(part.layers[0].lengths, own.lengths)
    other = ensembles.rows(1, 3).others[0]
    assert torch.equal(other.layers[0].states, joined.layers[0].states[1:3, :7][:, : int(other.lengths.max())])


def surface_decoder(memory_dim: int = 16, **options: Any) -> TransformerDecoder:
    torch.manual_seed(0)
    fusion = SurfaceFusionConfig(**options)
    return TransformerDecoder(7, memory_dim, 16, 2, 2, 32, surface_fusion=fusion).double().eval()


@pytest.mark.parametrize("options", [{}, {"mode": "soft", "temperature": 2.0}])
def test_a_decoder_fuses_what_its_last_state_finds_in_the_surface(options: dict[str, Any]) -> None:
    model, memory, tokens = surface_decoder(**options), toy_memory([5, 3]), torch.tensor([[2, 4, 5], [2, 6, 3]])
    plain = TransformerDecoder(7, 16, 16, 2, 2, 32).double().eval()
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("surface")})
    assert model.surface is not None
    assert isinstance(model.out, nn.Linear)
    found = model(memory, tokens)
    for b in range(2):
        alone = memory.rows(b, b + 1)
        x, _ = plain.read(alone, tokens[b : b + 1], [(0, 0)])
        cached = model.surface.project(alone.states, alone.layers[0].states)
        looked = model.surface(plain.norm(x), cached, None)
        expected = model.surface.log_probs(plain.logits(x), looked @ model.out.weight.T + model.out.bias)
        torch.testing.assert_close(found[b], expected[0])
    assert not torch.allclose(found, plain(memory, tokens))


def test_the_surface_may_have_been_prepared_and_may_have_another_width() -> None:
    model, memory = surface_decoder(memory_dim=12), toy_memory([5, 3], dim=12)
    tokens = torch.randint(7, (4, 3))
    prepared = model.prepared(memory)
    torch.testing.assert_close(model(replace(prepared, layers={}), tokens), model(memory, tokens))
    torch.testing.assert_close(model(prepared.rows(1, 2), tokens[2:]), model(memory, tokens)[2:])


def test_a_memory_of_zeros_has_a_surface_of_zeros() -> None:
    model, memory = surface_decoder(), toy_memory([5, 3])
    scorer = InternalLMScorer(model)
    found = scorer.score(torch.tensor([2, 2]), scorer.start(memory, 1))
    lengths = torch.tensor([1, 1])
    zeros = Memory(torch.zeros(2, 1, 16).double(), lengths, layers={0: Memory(torch.zeros(2, 1, 16).double(), lengths)})
    torch.testing.assert_close(found, model(zeros, torch.tensor([[2], [2]]))[:, 0])


def test_a_decoder_without_its_surface_says_what_to_do() -> None:
    model, memory = surface_decoder(), replace(toy_memory([5]), layers={})
    with pytest.raises(UserError, match=r"surface_fusion: needs an encoder with layer_fusion=\{surface: true\}"):
        model.start(memory, 2)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("transformer", {"layer_fusion": {"group_size": 3}}, r"group_size=3: num_layers=4 do not divide"),
        ("conformer", {"layer_fusion": {"group_size": 0}}, r"group_size=0: num_layers=4 do not divide"),
        (
            "conformer",
            {"layer_fusion": {"surfaces": True}},
            r"model\.layer_fusion\.surfaces: .* Did you mean 'surface'",
        ),
        ("lstm", {"layer_fusion": {"surface": 1}}, r"model\.layer_fusion\.surface: expected bool, got 1"),
        ("lstm", {"layer_fusion": {"surface": True}, "pyramid": [2]}, r"layer_fusion: layers of a pyramid=\[2\]"),
    ],
)
def test_what_an_encoder_cannot_do_is_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        encoder(name, **options)


def test_a_deep_encoder_under_a_shallow_decoder_is_a_matter_of_numbers() -> None:
    model = encoder("transformer", num_layers=9)
    decoder = TransformerDecoder(7, 16, 16, num_layers=1, num_heads=2, feed_forward_dim=32).double().eval()
    memory = model(*toy_source([40, 25]))
    assert len(model.layers) == 9
    assert decoder(memory, torch.tensor([[2, 3], [2, 4]])).shape == (2, 2, 7)
