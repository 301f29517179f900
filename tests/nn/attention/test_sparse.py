from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_attention import BIASES, bias_of, inputs, plain
from torch import Tensor, nn

from s2s.nn.attention.attention import Attention
from s2s.nn.attention.config import AttentionConfig
from s2s.nn.attention.sparse import Entmax, Sparse

KINDS = ("sparsemax", "entmax15", "entmax")


def sparse(kind: str, num_heads: int = 4) -> Sparse:
    torch.manual_seed(0)
    layer = Attention(4 * num_heads, num_heads, config=AttentionConfig(kind=kind)).weighting
    assert isinstance(layer, Sparse)
    return layer.double()


def alphas(layer: Sparse, num_heads: int = 4) -> list[float]:
    """α of each head."""
    if isinstance(layer.transform, Entmax):
        return [1 + 1 / (1 + float((-a).exp())) for a in layer.transform.a.detach().flatten()]
    return [2.0 if layer.transform.__name__ == "sparsemax" else 1.5] * num_heads


def simplex_projection(scores: Tensor) -> Tensor:
    """Martins and Astudillo 2016, algorithm 1."""
    z = sorted(scores.tolist(), reverse=True)
    k = max(k for k in range(1, len(z) + 1) if 1 + k * z[k - 1] > sum(z[:k]))
    tau = (sum(z[:k]) - 1) / k
    return torch.tensor([max(score - tau, 0.0) for score in scores.tolist()], dtype=torch.float64)


def entmax(scores: Tensor, alpha: float) -> Tensor:
    """[(α-1) z - τ]₊^(1/(α-1)), with τ halved in on until float64 has no more."""
    z = [(alpha - 1) * score for score in scores.tolist()]
    low, high = max(z) - 1, max(z)
    while low < (tau := (low + high) / 2) < high:
        total = sum(max(x - tau, 0.0) ** (1 / (alpha - 1)) for x in z)
        low, high = (tau, high) if total > 1 else (low, tau)
    return torch.tensor([max(x - low, 0.0) ** (1 / (alpha - 1)) for x in z], dtype=torch.float64)


def reference(layer: Sparse) -> Callable[[Tensor, int], Tensor]:
    alpha = alphas(layer)
    return lambda scores, head: simplex_projection(scores) if alpha[head] == 2 else entmax(scores, alpha[head])


@pytest.mark.parametrize("bias", BIASES)
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_sparse_attention_equals_its_equation(kind: str, kv_heads: int, bias: str) -> None:
    layer, given = sparse(kind), (*inputs(kv_heads=kv_heads), bias_of(bias))
    expected, expected_weights = plain(*given, reference(layer))
    result, weights = layer(*given, need_weights=True)
    torch.testing.assert_close(weights, expected_weights, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(result, expected, rtol=1e-9, atol=1e-12)
    assert torch.equal(weights == 0, expected_weights == 0)
    without, nothing = layer(*given)
    assert nothing is None
    assert torch.equal(without, result)


def weights_of(layer: Sparse, scores: Tensor) -> Tensor:
    """Weights of scores (H,T): each head has one query, of one feature, that is one, and the scores for keys."""
    keys = scores[None, :, :, None]
    weights = layer(torch.ones(1, len(scores), 1, 1).to(scores), keys, keys, None, need_weights=True)[1]
    return weights[0, :, 0]


scores_of_heads = st.tuples(st.integers(1, 40), st.floats(0.01, 20), st.integers(0, 1000))


def drawn(shape: tuple[int, float, int]) -> Tensor:
    num_keys, spread, seed = shape
    return spread * torch.randn(4, num_keys, generator=torch.Generator().manual_seed(seed)).double()


@pytest.mark.parametrize("kind", KINDS)
@given(shape=scores_of_heads)
@settings(max_examples=15)
def test_weights_are_a_distribution_in_the_order_of_the_scores(kind: str, shape: tuple[int, float, int]) -> None:
    scores = drawn(shape)
    weights = weights_of(sparse(kind), scores)
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(4).double())
    assert (weights.gather(-1, scores.argsort(dim=-1)).diff(dim=-1) >= 0).all()


@pytest.mark.parametrize("kind", KINDS)
@given(shape=scores_of_heads)
@settings(max_examples=15)
def test_weights_satisfy_the_equation_of_entmax(kind: str, shape: tuple[int, float, int]) -> None:
    layer, scores = sparse(kind), drawn(shape)
    for alpha, z, p in zip(alphas(layer), scores, weights_of(layer, scores), strict=True):
        tau = ((alpha - 1) * z - p ** (alpha - 1))[p > 0]
        torch.testing.assert_close(tau, tau[:1].expand_as(tau), rtol=1e-7, atol=1e-6)
        assert ((alpha - 1) * z[p == 0] <= tau.mean() + 1e-6).all()


@given(shape=scores_of_heads)
@settings(max_examples=15)
def test_sparsemax_is_the_nearest_distribution(shape: tuple[int, float, int]) -> None:
    scores = drawn(shape)
    weights = weights_of(sparse("sparsemax"), scores)
    # p is nearest to z in a convex set if and only if (z - p)·(q - p) is not positive for any q, so for any corner.
    difference = scores - weights
    assert (difference - (difference * weights).sum(-1, keepdim=True) <= 1e-9).all()


@pytest.mark.parametrize("kind", KINDS)
def test_far_keys_have_no_weight_at_all(kind: str) -> None:
    weights = weights_of(sparse(kind), torch.tensor([0.0, 200.0, -1.0, 200.1]).double().expand(4, 4))
    assert torch.equal(weights == 0, torch.tensor([True, False, True, False]).expand(4, 4))


@pytest.mark.parametrize(("a", "kind"), [(0.0, "entmax15"), (50.0, "sparsemax")])
def test_a_learned_alpha_has_the_fixed_ones_among_its_values(a: float, kind: str) -> None:
    layer = sparse("entmax")
    nn.init.constant_(layer.transform.a, a)
    scores = drawn((20, 1.0, 0))
    torch.testing.assert_close(weights_of(layer, scores), weights_of(sparse(kind), scores))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_alpha_that_falls_gives_almost_a_softmax(dtype: torch.dtype) -> None:
    layer, scores = sparse("entmax").to(dtype), drawn((20, 1.0, 0)).to(dtype)
    nn.init.constant_(layer.transform.a, -1e3)
    torch.testing.assert_close(weights_of(layer, scores), scores.softmax(-1), rtol=0, atol=0.02)


def test_the_gradient_of_alpha_is_that_of_the_equation() -> None:
    layer, scores = sparse("entmax"), drawn((8, 1.0, 0))
    direction = torch.randn(4, 8, generator=torch.Generator().manual_seed(1)).double()
    (found,) = torch.autograd.grad((weights_of(layer, scores) * direction).sum(), layer.transform.a)
    for head, a in enumerate(layer.transform.a.detach().flatten()):
        above, below = (
            direction[head] @ entmax(scores[head], 1 + float((a + step).sigmoid())) for step in (1e-5, -1e-5)
        )
        torch.testing.assert_close(found[head, 0, 0], (above - below) / 2e-5, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("additive", [False, True])
def test_a_query_that_may_attend_to_nothing_gives_zeros_and_finite_gradients(kind: str, additive: bool) -> None:
    layer, (query, keys, values) = sparse(kind), (x.requires_grad_() for x in inputs())
    bias = torch.ones(2, 1, 3, 5, dtype=torch.bool)
    bias[0, :, 1] = False
    if additive:
        bias = torch.zeros(2, 1, 3, 5).double().masked_fill(~bias, float("-inf"))
    result, weights = layer(query, keys, values, bias, need_weights=True)
    assert not weights[0, :, 1].any()
    assert not result[0, :, 1].any()
    torch.testing.assert_close(weights[0, :, 0].sum(-1), torch.ones(4).double())
    for gradient in torch.autograd.grad(result.square().sum(), (query, keys, values, *layer.parameters())):
        assert gradient.isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_keys", [10, 2000])
def test_weights_in_single_precision_are_those_in_double(kind: str, num_keys: int) -> None:
    layer, scores = sparse(kind), drawn((num_keys, 1.0, 0))
    expected = weights_of(layer, scores)
    found = weights_of(layer.float(), scores.float())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("autocast", [False, True])
def test_weights_in_half_precision_are_made_in_single(kind: str, autocast: bool) -> None:
    layer = sparse(kind).to(torch.float32 if autocast else torch.bfloat16)
    given = [x.to(torch.float32 if autocast else torch.bfloat16) for x in inputs()]
    seen: list[Tensor] = []

    def transform(scores: Tensor) -> Tensor:
        seen.extend((scores, original(scores)))
        return seen[-1]

    original = layer.transform
    spied = Sparse(transform)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        result, weights = spied(*given, bias_of("padding"), need_weights=True)
    scores, made = seen
    assert scores.dtype == made.dtype == torch.float32
    torch.testing.assert_close(made.sum(-1), torch.ones(2, 4, 3), rtol=0, atol=2e-6)
    assert weights.dtype == given[2].dtype
    assert not weights[1, :, :, 2:].any()
    expected, _ = sparse(kind)(*inputs(), bias_of("padding"))
    torch.testing.assert_close(result.double(), expected, rtol=0.1, atol=0.1)
