from __future__ import annotations

import pytest

from s2s.errors import UserError
from s2s.models.build import build
from s2s.models.conformer import ConformerEncoder

FRONT = {"_target_": "s2s.nn.subsampling.ConvolutionSubsampling", "input_dim": 8, "model_dim": 16}
ENCODER = {"_target_": "s2s.models.conformer.ConformerEncoder", "front": FRONT, "model_dim": 16, "num_layers": 1}


def test_a_config_becomes_the_module_it_names() -> None:
    encoder = build(ENCODER)
    assert isinstance(encoder, ConformerEncoder)
    assert encoder.model_dim == 16
    assert len(encoder.blocks) == 1


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "torch.nn.Linear",
        "s2s.models.bundle.os.system",  # reached through what a module of s2s imports
        "s2s.models.conformer.ConformerBlock",  # imported there, defined elsewhere
        "s2s.models.build.build",
        "s2s.data.loader.DataConfig",
        "s2s.nowhere.Encoder",
        "s2s",
        3,
        None,
    ],
)
def test_nothing_but_module_classes_of_s2s_is_built(target: object) -> None:
    with pytest.raises(UserError, match=r"model\._target_: "):
        build({"_target_": target})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_layer": 2}, r"model\.num_layer: ConformerEncoder has no such key\. Did you mean 'num_layers'"),
        ({"num_layers": "two"}, r"model\.num_layers: expected int, got 'two'"),
        ({"num_layers": True}, r"model\.num_layers: expected int, got True"),
        ({"dropout": [0.1]}, r"model\.dropout: expected float, got \[0\.1\]"),
        ({"_target_": "s2s.models.conformer.ConformerEncoderr"}, "Did you mean 'ConformerEncoder'"),
    ],
)
def test_a_mistake_is_named_with_its_key(change: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build({**ENCODER, **change})


def test_what_is_missing_is_named() -> None:
    with pytest.raises(UserError, match="ConformerEncoder needs front"):
        build({"_target_": ENCODER["_target_"]})
    with pytest.raises(UserError, match="expected a key `_target_`"):
        build({"front": FRONT})


def test_errors_name_the_nested_key() -> None:
    model = {"_target_": "s2s.models.hybrid.HybridModel", "encoder": {**ENCODER, "layers": 2}}
    with pytest.raises(UserError, match=r"model\.encoder\.layers"):
        build(model)
