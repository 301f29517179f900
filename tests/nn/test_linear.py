from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from s2s.nn import linear
from s2s.nn.linear import Linear


def answers(layer: nn.Linear, x: Tensor) -> list[Tensor]:
    """What comes out of a layer, and the gradients of x, the weight and the bias."""
    x = x.detach().clone().requires_grad_()
    y = layer(x)
    wanted = [x, *layer.parameters()]
    return [y, *torch.autograd.grad((y * torch.linspace(-1, 1, y.size(-1), dtype=y.dtype)).sum(), wanted)]


def products(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes of what oneDNN multiplies from here on."""
    found: list[tuple[int, ...]] = []
    true = linear._times_transposed

    def noted(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
        found.append((*a.shape, len(b)))
        return true(a, b, bias)

    monkeypatch.setattr(linear, "_times_transposed", noted)
    return found


has_onednn = pytest.mark.skipif(linear._PRODUCT is None, reason="a torch without oneDNN")


@has_onednn
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(64, 24), (3, 50, 24), (2, 2, 40, 24)])
def test_results_and_gradients_are_those_of_a_linear_layer(
    bias: bool, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    own, x = Linear(24, 40, bias), torch.randn(shape)
    exact = nn.Linear(24, 40, bias, dtype=torch.float64)
    exact.load_state_dict(own.state_dict())
    shapes = products(monkeypatch)
    for found, wanted in zip(answers(own, x), answers(exact, x.double()), strict=True):
        torch.testing.assert_close(found, wanted.float(), rtol=1e-5, atol=1e-4)
    assert len(shapes) == 3  # forwards, of x and of the weight


@has_onednn
def test_memory_may_lie_in_any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    layer, x = Linear(24, 40), torch.randn(24, 5, 80)
    shapes = products(monkeypatch)
    turned = answers(layer, x.transpose(0, 2))
    straight = answers(layer, x.transpose(0, 2).contiguous())
    for found, wanted in zip(turned, straight, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-4)
    assert len(shapes) == 6


@has_onednn
def test_only_the_gradients_that_are_wanted_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, shapes = Linear(8, 6), products(monkeypatch)
    layer(torch.randn(100, 8)).sum().backward()  # of features
    assert shapes == [(100, 8, 6), (6, 100, 8)]
    shapes.clear()
    layer.requires_grad_(False)(torch.randn(100, 8, requires_grad=True)).sum().backward()  # frozen
    assert shapes == [(100, 8, 6), (100, 6, 8)]


@has_onednn
def test_recomputed_it_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    layers = nn.Sequential(Linear(8, 70), nn.ReLU(), Linear(70, 8))
    x, shapes = torch.randn(100, 8, requires_grad=True), products(monkeypatch)
    plain = torch.autograd.grad(layers(x).square().sum(), [x, *layers.parameters()])
    count = len(shapes)
    again = torch.autograd.grad(checkpoint(layers, x, use_reentrant=False).square().sum(), [x, *layers.parameters()])
    assert count == 6
    assert len(shapes) == 6 + 8
    for a, b in zip(plain, again, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("case", ["few rows", "float64", "autocast", "no gradient", "no oneDNN", "mixed"])
def test_elsewhere_it_is_torch_s_own(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    shapes = products(monkeypatch)
    if case == "no oneDNN":
        monkeypatch.setattr(linear, "_PRODUCT", None)
    dtype = torch.float64 if case == "float64" else torch.float32
    layer = Linear(8, 6, dtype=dtype)
    theirs = copy.deepcopy(layer)
    theirs.__class__ = nn.Linear  # type: ignore[assignment]
    x = torch.randn(10 if case == "few rows" else 100, 8, dtype=dtype)
    with torch.autocast("cpu", enabled=case == "autocast"), torch.set_grad_enabled(case != "no gradient"):
        if case == "mixed":  # as torch says it
            with pytest.raises(RuntimeError, match="dtype"):
                layer(x.double())
        else:
            assert torch.equal(layer(x), theirs(x))
    assert not shapes
