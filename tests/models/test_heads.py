from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from toy import toy_bundle, toy_source

from s2s.errors import UserError
from s2s.models.attentions import attentions
from s2s.models.build import build
from s2s.models.bundle import Bundle, load_bundle
from s2s.models.heads import check_removable, head_importance, most_important, pruned
from s2s.models.hybrid import HybridModel

CLOSE = {"rtol": 1e-10, "atol": 1e-10}
small = {"model_dim": 16, "num_layers": 2, "num_heads": 4, "feed_forward_dim": 24}
FRONT = {"_target_": "s2s.nn.subsampling.ConvolutionSubsampling", "input_dim": 8, "model_dim": 16, "channels": 4}
CONFORMER = {"_target_": "s2s.models.conformer.ConformerEncoder", "front": FRONT, "kernel_size": 3, **small}
TRANSFORMER = {"_target_": "s2s.models.transformer_encoder.TransformerEncoder", "front": FRONT, **small}
BRANCHFORMER = {
    "_target_": "s2s.models.branchformer.BranchformerEncoder",
    "front": FRONT,
    "gating_dim": 12,
    "kernel_size": 3,
    **small,
}
DECODER = {
    "_target_": "s2s.models.transformer_decoder.TransformerDecoder",
    "vocab_size": 7,
    "memory_dim": 16,
    **small,
}
LSTM = {
    "_target_": "s2s.models.lstm_decoder.LSTMDecoder",
    "vocab_size": 7,
    "memory_dim": 16,
    "model_dim": 16,
    "num_heads": 4,
}
MODELS: dict[str, dict[str, Any]] = {
    "conformer": {"encoder": CONFORMER, "decoder": DECODER},
    "conformer, rotary, knocking": {
        "encoder": {**CONFORMER, "positions": "rotary", "attention": {"knocking": True, "num_heads": 3, "head_dim": 6}},
        "decoder": {**DECODER, "cross_attention": {"num_heads": 3, "head_dim": 2, "masked_heads": 2}},
    },
    "transformer, a kind for each layer": {
        "encoder": {**TRANSFORMER, "attention": [{"kind": "entmax"}, {"reach": "limited", "left": 2, "right": 1}]},
        "decoder": {
            **DECODER,
            "positions": "relative",
            "self_attention": {"kind": "entmax"},
            "cross_attention": {"kind": "relaxed", "relax_always": True},
        },
        "reverse_decoder": {**DECODER, "num_layers": 1},
        "reverse_weight": 0.3,
    },
    "conformer, heads that stop": {
        "encoder": CONFORMER,
        "decoder": {
            **DECODER,
            "cross_attention": [{"kind": "monotonic"}, {"kind": "monotonic", "lookback": "none", "stop_bias": 0.0}],
        },
    },
    "branchformer, lstm": {"encoder": BRANCHFORMER, "decoder": {**LSTM, "cross_attention": {"kind": "sparsemax"}}},
}


def config_of(parts: dict[str, Any]) -> dict[str, Any]:
    normalise = {"_target_": "s2s.audio.normalise.GlobalNormalise", "num_bins": 8}
    return {"_target_": "s2s.models.hybrid.HybridModel", "vocab_size": 7, "normalise": normalise, **parts}


def hybrid(config: dict[str, Any]) -> HybridModel:
    """In float64, with biases that are random too."""
    torch.manual_seed(0)
    model = build(config)
    assert isinstance(model, HybridModel)
    for parameter in model.parameters():
        if parameter.dim() == 1 or parameter.size(-2) == 1:
            nn.init.normal_(parameter)
    return model.double().eval()


def outputs(model: HybridModel) -> list[Tensor]:
    """Log-probabilities of CTC and of all decoders, all at once and a token at a time."""
    memory, tokens = model.encode(*toy_source([40, 23])), torch.tensor([[2, 4, 5], [2, 6, 4]])
    step, state = model.decoder.step(tokens[:, 0], model.decoder.start(memory, 1))
    step_2, _ = model.decoder.step(tokens[:, 1], state)
    reverse = [] if model.reverse_decoder is None else [model.reverse_decoder(memory, tokens)]
    return [memory.states, model.ctc(memory), model.decoder(memory, tokens), step, step_2, *reverse]


@pytest.mark.parametrize("name", MODELS)
def test_a_pruned_model_gives_what_masking_the_heads_gives(name: str) -> None:
    config = config_of(MODELS[name])
    model, chance = hybrid(config), torch.Generator().manual_seed(1)
    kept: dict[str, list[int]] = {}
    for where, layer in attentions(model).items():
        check_removable(where, layer)
        count = int(torch.randint(1, layer.num_heads + 1, (), generator=chance))
        kept[where] = sorted(torch.randperm(layer.num_heads, generator=chance)[:count].tolist())
    smaller, smaller_config = pruned(model, config, kept)
    assert isinstance(smaller, HybridModel)
    assert {where: layer.num_heads for where, layer in attentions(smaller).items()} == {
        where: len(heads) for where, heads in kept.items()
    }
    masked = hybrid(config)
    for where, layer in attentions(masked).items():
        layer.head_gates = torch.tensor([h in kept[where] for h in range(layer.num_heads)]).double()
    for found, expected in zip(outputs(smaller), outputs(masked), strict=True):
        torch.testing.assert_close(found, expected, **CLOSE)
    again = hybrid(smaller_config)
    again.load_state_dict(smaller.state_dict())
    for found, expected in zip(outputs(again), outputs(smaller), strict=True):
        torch.testing.assert_close(found, expected, **CLOSE)


def test_what_is_left_has_fewer_parameters_of_its_own() -> None:
    config = config_of(MODELS["conformer"])
    model = hybrid(config)
    smaller, _ = pruned(model, config, {name: [1] for name in attentions(model)})
    before, after = (sum(p.untyped_storage().nbytes() for p in each.parameters()) for each in (model, smaller))
    layers = attentions(model)
    of_a_head = sum(4 * 16 * 4 + 3 * 4 for _ in layers) + 2 * (4 * 16 + 2 * 4)  # relative positions in the encoder
    assert before - after == 8 * 3 * of_a_head
    assert sum(p.untyped_storage().nbytes() for p in model.parameters()) == before


def test_a_pruned_bundle_loads(tmp_path: Any) -> None:
    bundle = toy_bundle()
    kept = {name: [1] for name in attentions(bundle.model)}
    smaller, config = pruned(bundle.model, bundle.model_config, kept)
    Bundle(smaller, bundle.tokenizer, bundle.features, config).save(tmp_path / "pruned")
    found = load_bundle(tmp_path / "pruned").model
    assert {k: v.tolist() for k, v in found.state_dict().items()} == {
        k: v.tolist() for k, v in smaller.state_dict().items()
    }
    assert not found.training
    assert bundle.model_config == toy_bundle().model_config


def test_pruned_twice_is_pruned_at_once() -> None:
    config = config_of(MODELS["transformer, a kind for each layer"])
    model = hybrid(config)
    names = attentions(model)
    once = pruned(model, config, {name: [3] for name in names})
    half = pruned(model, config, {name: [1, 3] for name in names})
    twice = pruned(*half, {name: [1] for name in names})
    assert twice[1] == once[1]
    assert {k: v.tolist() for k, v in twice[0].state_dict().items()} == {
        k: v.tolist() for k, v in once[0].state_dict().items()
    }


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"encoder": {**CONFORMER, "positions": "alibi"}}, r"encoder.blocks.0.attention: .*positions=alibi"),
        ({"encoder": {**CONFORMER, "attention": {"kv_heads": 2}}}, r"encoder.blocks.0.attention: .*kv_heads"),
        ({"encoder": {**CONFORMER, "attention": {"projection": "keys_only"}}}, r"projection=keys_only"),
        ({"encoder": {**CONFORMER, "attention": {"active_heads": 2}}}, r"active_heads"),
        ({"decoder": {**DECODER, "self_attention": {"kind": "rectified"}}}, r"layers.0.self_attention: .*rectified"),
        (
            {"decoder": {**DECODER, "cross_attention": {"reach": "strided", "stride": 2}}},
            r"decoder.layers.0.memory_attention: .*reach=strided",
        ),
        (
            {"decoder": {**DECODER, "cross_attention": {"kind": "monotonic", "head_wait": 3}}},
            r"decoder.layers.0.memory_attention: .*head_wait",
        ),
    ],
)
def test_heads_that_depend_on_each_other_are_not_removed(parts: dict[str, Any], message: str) -> None:
    config = config_of({**MODELS["conformer"], **parts})
    model = hybrid(config)
    with pytest.raises(UserError, match=message):
        pruned(model, config, {name: [0] for name in attentions(model)})
    whole, _ = pruned(model, config, {name: list(range(4)) for name in attentions(model)})  # there is nothing to remove
    for found, expected in zip(outputs(whole), outputs(model), strict=True):  # type: ignore[arg-type]
        torch.testing.assert_close(found, expected, **CLOSE)


def test_a_model_whose_config_has_no_attention_is_not_pruned() -> None:
    config = config_of(MODELS["conformer"])
    model = hybrid(config)
    with pytest.raises(UserError, match=r"encoder.blocks.0.attention: .*HybridModel has no config of attention"):
        pruned(model, {**config, "encoder": {}}, {"encoder.blocks.0.attention": [0]})
    with pytest.raises(UserError, match=r"Linear: it has no attention heads"):
        attentions(nn.Linear(2, 2))


def losses(model: HybridModel) -> dict[int, Tensor]:
    """Losses of three utterances by length, in float64 (the model's own are in float32)."""
    found = {}
    for length in (24, 40, 61):
        memory = model.encode(*toy_source([length], seed=length))
        of_decoder = model.decoder(memory, torch.tensor([[2, 4, 5]]))[0, :, 6]
        found[length] = -of_decoder.mean() - model.ctc(memory)[0, :4, 5].mean()
    return found


@pytest.mark.parametrize("name", ["conformer", "branchformer, lstm"])
def test_importance_is_how_much_the_loss_changes_with_a_head(name: str) -> None:
    model, step = hybrid(config_of(MODELS[name])), 1e-5
    found = head_importance(model, (24, 40, 61), lambda length: losses(model)[length])
    assert all(layer.head_gates is None for layer in attentions(model).values())
    for where, layer in attentions(model).items():
        changes = []
        for head in range(layer.num_heads):
            moved = []
            for factor in (1 + step, 1 - step):
                layer.head_gates = torch.ones(layer.num_heads).double()
                layer.head_gates[head] = factor
                with torch.no_grad():
                    moved.append(losses(model))
            layer.head_gates = None
            changes.append(sum(abs(float(moved[0][x] - moved[1][x])) / (2 * step) for x in moved[0]) / 3)
        expected = torch.tensor(changes).double()
        torch.testing.assert_close(found[where], expected / expected.square().sum().sqrt(), rtol=1e-5, atol=1e-7)


def test_heads_that_are_not_used_have_no_importance() -> None:
    model = hybrid(config_of(MODELS["conformer"]))
    found = head_importance(model, [40], lambda length: model.ctc(model.encode(*toy_source([length]))).square().sum())
    for name, values in found.items():
        assert bool(values.any()) == name.startswith("encoder.")


def test_importance_asks_for_samples_and_finite_gradients_and_leaves_the_model_as_it_was() -> None:
    model = hybrid(config_of(MODELS["conformer"]))
    with pytest.raises(UserError, match=r"nothing to measure"):
        head_importance(model, [], lambda length: losses(model)[length])
    with pytest.raises(UserError, match=r"encoder.blocks.0.attention: .*not finite"):
        head_importance(model, [40], lambda length: losses(model)[length] * float("inf"))
    assert all(layer.head_gates is None for layer in attentions(model).values())


@given(
    values=st.lists(st.lists(st.floats(0, 1), min_size=1, max_size=6), min_size=1, max_size=4),
    keep=st.floats(0, 1, exclude_min=True),
)
@settings(max_examples=30)
def test_the_most_important_heads_are_kept_and_one_of_each_layer(values: list[list[float]], keep: float) -> None:
    importance = {f"layer {i}": torch.tensor(each).double() for i, each in enumerate(values)}
    kept = most_important(importance, keep)
    total = sum(map(len, values))
    assert sum(map(len, kept.values())) == max(len(values), round(keep * total))
    removed = [v for name, each in importance.items() for h, v in enumerate(each.tolist()) if h not in kept[name]]
    for name, heads in kept.items():
        assert heads == sorted(set(heads))
        assert importance[name].max() in importance[name][heads]
        if len(heads) > 1:
            assert all(importance[name][heads].min() >= v for v in removed)


@pytest.mark.parametrize("keep", [0.0, -0.5, 1.01, float("nan")])
def test_a_share_is_above_0_and_at_most_1(keep: float) -> None:
    with pytest.raises(UserError, match=r"keep=.*: expected a share"):
        most_important({"layer": torch.ones(4)}, keep)
