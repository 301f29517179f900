from __future__ import annotations

import pytest
import torch
from plain_attention import BIASES, bias_of, inputs, plain
from torch import Tensor

from s2s.nn.attention.rectified import EPSILON, Rectified


def rectified(dtype: torch.dtype = torch.float64) -> Rectified:
    """Of four heads of size four, with a random gate and scale."""
    torch.manual_seed(0)
    layer = Rectified(4, 4)
    torch.nn.init.normal_(layer.gate)
    torch.nn.init.normal_(layer.scale)
    return layer.to(dtype)


def normalised(layer: Rectified, result: Tensor) -> Tensor:
    """σ(w ⊙ z) ⊙ g ⊙ z / √(mean(z²) + ε) for z (H*d,) of each query of result (B,H,U,d)."""
    gate, scale = layer.gate.detach().flatten(), layer.scale.detach().flatten()
    expected = torch.zeros_like(result)
    for b in range(result.size(0)):
        for u in range(result.size(2)):
            z = result[b, :, u].flatten()
            rms = (sum(x * x for x in z) / len(z) + EPSILON) ** 0.5
            expected[b, :, u] = (z / rms * scale / (1 + (-gate * z).exp())).view(result.size(1), -1)
    return expected


@pytest.mark.parametrize("bias", BIASES)
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_rectified_attention_equals_its_equation(kv_heads: int, bias: str) -> None:
    layer, given = rectified(), (*inputs(kv_heads=kv_heads), bias_of(bias))
    expected, expected_weights = plain(*given, lambda scores, head: torch.where(scores > 0, scores, 0.0))
    result, weights = layer(*given, need_weights=True)
    torch.testing.assert_close(weights, expected_weights)
    torch.testing.assert_close(result, normalised(layer, expected))
    assert torch.equal(layer(*given)[0], result)


def test_weights_are_exactly_zero_where_scores_are_negative_and_where_nothing_may_be_attended_to() -> None:
    query, keys, values = inputs(kv_heads=4)
    _, weights = rectified()(query, keys, values, bias_of("padding"), need_weights=True)
    open_, positive = bias_of("padding").expand(2, 4, 3, 5), query @ keys.transpose(-2, -1) > 0
    assert torch.equal(weights > 0, positive & open_)
    assert torch.equal(weights == 0, ~(positive & open_))
    assert (positive & open_).any()
    assert (~positive & open_).any()


def test_a_query_that_attends_to_nothing_gives_zeros_and_finite_gradients() -> None:
    layer = rectified()
    query, keys, values = (x.requires_grad_() for x in inputs(kv_heads=4))
    shown = torch.ones(2, 1, 3, 5, dtype=torch.bool)
    shown[0, :, 1] = False
    below = torch.zeros(2, 1, 3, 5).double()
    below[0, :, 1] = -1e3
    for bias in (shown, below):
        result, weights = layer(query, keys, values, bias, need_weights=True)
        assert not weights[0, :, 1].any()
        assert not result[0, :, 1].any()
        assert result[0, :, 0].any()
        for gradient in torch.autograd.grad(result.sum(), (query, keys, values, *layer.parameters())):
            assert gradient.isfinite().all()


def test_an_open_gate_lets_all_heads_of_a_query_through_with_a_mean_square_of_one() -> None:
    layer, given = Rectified(4, 4).double(), inputs()
    torch.nn.init.zeros_(layer.gate)  # a half of everything
    result = 2 * layer(*given, None)[0]
    torch.testing.assert_close(result.square().mean(dim=(1, 3)), torch.ones(2, 3).double())


def test_dropout_is_of_the_weights_and_those_given_are_before_it() -> None:
    layer, given = rectified(), (*inputs(), bias_of("padding"))
    result, weights = layer(*given, need_weights=True)
    dropped, same = layer(*given, dropout=0.5, need_weights=True)
    assert torch.equal(weights, same)
    assert not torch.allclose(result, dropped)
    assert not layer(*given, dropout=1.0)[0].any()


def test_large_results_in_half_precision_are_normalised_all_the_same() -> None:
    query, keys, values = inputs()
    expected, _ = rectified()(query, keys, 300 * values, None)
    found, _ = rectified(torch.float16)(*(x.half() for x in (query, keys, 300 * values)), None)
    assert found.dtype == torch.float16
    torch.testing.assert_close(found.double(), expected, atol=0.02, rtol=0.02)
