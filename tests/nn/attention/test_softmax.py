from __future__ import annotations

import pytest
import torch
from plain_attention import BIASES, bias_of, inputs, plain

from s2s.nn.attention.softmax import Softmax
from s2s.nn.lengths import valid_mask


@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("bias", BIASES)
def test_softmax_equals_its_equation(bias: str, need_weights: bool) -> None:
    given = (*inputs(), bias_of(bias))
    result, weights = Softmax()(*given, need_weights=need_weights)
    expected, expected_weights = plain(*given, lambda scores, head: scores.softmax(0))
    torch.testing.assert_close(result, expected)
    if need_weights:
        torch.testing.assert_close(weights, expected_weights)


@pytest.mark.parametrize("kind", ["none", "bool", "additive"])
def test_asking_for_weights_changes_no_result(kind: str) -> None:
    torch.manual_seed(0)
    query, keys, values = torch.randn(2, 3, 4, 8), torch.randn(2, 3, 6, 8), torch.randn(2, 3, 6, 8)
    mask = valid_mask(torch.tensor([6, 2]), 6)[:, None, None, :]
    bias = {"none": None, "bool": mask, "additive": torch.randn(2, 3, 4, 6)}[kind]
    fused, nothing = Softmax()(query, keys, values, bias)
    made, weights = Softmax()(query, keys, values, bias, need_weights=True)
    assert nothing is None
    assert weights is not None
    torch.testing.assert_close(made, fused, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 4))
    if kind == "bool":
        assert (weights[1, :, :, 2:] == 0).all()


@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("bias", BIASES)
@pytest.mark.parametrize("kv_heads", [1, 2])
def test_heads_that_share_keys_are_those_of_repeated_keys(kv_heads: int, bias: str, need_weights: bool) -> None:
    query, keys, values = inputs(kv_heads=kv_heads)
    repeated = (x.repeat_interleave(4 // kv_heads, dim=1) for x in (keys, values))
    found = Softmax()(query, keys, values, bias_of(bias), need_weights=need_weights)
    expected = Softmax()(query, *repeated, bias_of(bias), need_weights=need_weights)
    torch.testing.assert_close(found, expected)
