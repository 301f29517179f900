from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from s2s.errors import UserError
from s2s.nn.layer_fusion import GroupFusion, SurfaceFusion, SurfaceFusionConfig, check_layers


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(groups=st.integers(1, 4), group_size=st.integers(1, 3))
@settings(max_examples=12)
def test_groups_are_the_mean_of_their_gated_last_layers(groups: int, group_size: int) -> None:
    fusion = GroupFusion(groups * group_size, group_size).double()
    torch.nn.init.normal_(fusion.weight)
    layers = randn(groups * group_size, 2, 3, 4)
    expected = torch.zeros(2, 3, 4).double()
    for m, weight in enumerate(fusion.weight.tolist()):
        expected += 1 / (1 + math.exp(-weight)) * layers[(m + 1) * group_size - 1] / groups
    ends = [layer for number, layer in enumerate(layers, 1) if fusion.ends(number)]
    torch.testing.assert_close(fusion(ends), expected)


@pytest.mark.parametrize(("num_layers", "group_size"), [(6, 4), (6, 7), (6, 0), (6, -2)])
def test_layers_have_to_divide_into_groups(num_layers: int, group_size: int) -> None:
    with pytest.raises(UserError, match=rf"group_size={group_size}: num_layers=6 do not divide"):
        GroupFusion(num_layers, group_size)


def surface_fusion(**options: Any) -> SurfaceFusion:
    torch.manual_seed(0)
    fusion = SurfaceFusion(SurfaceFusionConfig(**options), 8, 2, dropout=0.5).double().eval()
    for parameter in fusion.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return fusion


def test_a_decoder_looks_at_the_surface_where_the_states_say() -> None:
    fusion, heads = surface_fusion(), surface_fusion().attention.heads
    x, states, surface, lengths = randn(6, 3, 8), randn(3, 5, 8, seed=1), randn(3, 5, 8, seed=2), [5, 2, 4]
    shown = torch.arange(5) < torch.tensor(lengths)[:, None]
    found = fusion(x, fusion.project(states, surface), shown[:, None, None, :])
    for n in range(6):  # two rows an utterance
        for u in range(3):
            results = []
            for h in range(2):
                own = slice(4 * h, 4 * h + 4)
                query = heads.query.weight[own] @ x[n, u] + heads.query.bias[own]
                scores, values = [], []
                for t in range(lengths[n // 2]):
                    key = heads.key.weight[own] @ states[n // 2, t] + heads.key.bias[own]
                    scores.append(query @ key / 2)
                    values.append(heads.value.weight[own] @ surface[n // 2, t] + heads.value.bias[own])
                weights = torch.stack(scores).softmax(dim=0)
                results.append(sum(w * v for w, v in zip(weights, values, strict=True)))
            expected = heads.out.weight @ torch.cat(results) + heads.out.bias  # type: ignore[arg-type]
            torch.testing.assert_close(found[n, u], expected)


def test_queries_and_keys_of_the_surface_get_no_gradient() -> None:
    fusion = surface_fusion()
    x, states, surface = (randn(2, 3, 8, seed=i).requires_grad_() for i in range(3))
    fusion(x, fusion.project(states, surface), None).sum().backward()
    assert x.grad is None
    assert states.grad is None
    assert surface.grad is not None
    assert surface.grad.any()


@pytest.mark.parametrize(
    "options", [{}, {"weight": 0.3}, {"mode": "soft"}, {"mode": "soft", "temperature": 5.0}, {"weight": 1.0}]
)
def test_both_distributions_are_made_one(options: dict[str, Any]) -> None:
    fusion, logits, surface = surface_fusion(**options), randn(4, 7), randn(4, 7, seed=1)
    found = fusion.log_probs(logits, surface)
    for n in range(4):
        top, low = logits[n].exp() / logits[n].exp().sum(), surface[n].exp() / surface[n].exp().sum()
        if options.get("mode") == "soft":
            flat = (surface[n] / options.get("temperature", 1.0)).exp()
            product = logits[n].exp() * flat / flat.sum()
            expected = (product / product.sum()).log()
        else:
            weight = options.get("weight", 0.8)
            expected = weight * top.log() + (1 - weight) * low.log()
        torch.testing.assert_close(found[n], expected)
        assert found[n].exp().sum() <= 1 + 1e-12


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "hrad"}, r"mode=hrad: expected one of hard, soft\. Did you mean 'hard'"),
        ({"weight": 1.1}, r"weight=1\.1: expected a share"),
        ({"weight": -0.1}, r"weight=-0\.1: expected a share"),
        ({"mode": "soft", "temperature": 0.0}, r"temperature=0\.0: expected a number above 0"),
        ({"mode": "soft", "weight": 0.5}, r"weight=0\.5: has no effect with mode=soft"),
        ({"temperature": 2.0}, r"temperature=2\.0: has no effect with mode=hard"),
    ],
)
def test_a_wrong_config_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        SurfaceFusionConfig(**options)


@pytest.mark.parametrize("layers", [[], [0], [4], [1, 1], [-1], [2, 5]])
def test_numbers_of_layers_are_of_those_below_the_last(layers: list[int]) -> None:
    check_layers("key", [1, 3], 4)
    with pytest.raises(UserError, match=r"key\.layers=.*: expected numbers of different layers .* from 1 to 3"):
        check_layers("key", layers, 4)
