from __future__ import annotations

import pytest
import torch
from plain_attention import BIASES, bias_of, inputs, plain
from torch import Tensor

from s2s.nn.attention.relaxed import Relaxed
from s2s.nn.attention.softmax import Softmax


def gammas(layer: Relaxed) -> Tensor:
    """γ of each row (B,H,U) of a call: softmax leaves nothing for the second of two keys, so its weight is γ/2."""
    query, keys = torch.full((2, 3, 4, 1), 1e3), torch.tensor([1.0, -1.0])[:, None].expand(2, 3, 2, 1)
    _, weights = layer(query, keys, keys, None, need_weights=True)
    return 2 * weights[..., 1]


@pytest.mark.parametrize("bias", BIASES)
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_relaxed_attention_equals_its_equation(kv_heads: int, bias: str) -> None:
    given = (*inputs(kv_heads=kv_heads), bias_of(bias))
    expected, expected_weights = plain(*given, lambda scores, head: 0.7 * scores.softmax(0) + 0.3 / len(scores))
    result, weights = Relaxed(0.3)(*given, need_weights=True)
    torch.testing.assert_close(result, expected)
    torch.testing.assert_close(weights, expected_weights)
    torch.testing.assert_close(Relaxed(0.3)(*given)[0], expected)  # without weights it goes another way


@pytest.mark.parametrize("std", [0.0, 0.2])
def test_attention_is_relaxed_in_training_only_unless_always(std: float) -> None:
    given = (*inputs(), bias_of("padding"))
    softmax, relaxed = Softmax()(*given)[0], Relaxed(0.3)(*given)[0]
    assert torch.equal(Relaxed(0.3, std).eval()(*given)[0], softmax)
    assert not torch.allclose(Relaxed(0.3, std)(*given)[0], softmax)
    torch.testing.assert_close(Relaxed(0.3, std, always=True).eval()(*given)[0], relaxed)  # the mean, not a draw
    assert torch.equal(Relaxed(0.0)(*given)[0], softmax)


def test_a_relaxation_that_is_drawn_is_the_same_for_all_heads_and_rows_of_a_call_and_another_in_the_next() -> None:
    torch.manual_seed(0)
    layer = Relaxed(0.3, std=0.1)
    one, other = gammas(layer), gammas(layer)
    assert (one == one[0, 0, 0]).all()
    assert (other == other[0, 0, 0]).all()
    assert one[0, 0, 0] != other[0, 0, 0]


def test_a_relaxation_is_drawn_from_a_normal_distribution() -> None:
    torch.manual_seed(0)
    layer = Relaxed(0.5, std=0.1)
    drawn = torch.stack([gammas(layer)[0, 0, 0] for _ in range(1000)])
    assert abs(drawn.mean() - 0.5) < 0.02
    assert abs(drawn.std() - 0.1) < 0.02


def test_a_relaxation_that_is_drawn_is_cut_to_a_share() -> None:
    torch.manual_seed(0)
    layer = Relaxed(0.2, std=0.8)
    drawn = torch.stack([gammas(layer)[0, 0, 0] for _ in range(1000)])
    assert drawn.min() == 0.0
    assert drawn.max() == 1.0
    normal = torch.distributions.Normal(torch.tensor(0.2), torch.tensor(0.8))
    assert abs((drawn == 0.0).double().mean() - normal.cdf(torch.tensor(0.0))) < 0.05
    assert abs((drawn == 1.0).double().mean() - (1 - normal.cdf(torch.tensor(1.0)))) < 0.05


def test_a_drawn_relaxation_of_the_result_is_that_of_the_weights() -> None:
    query, keys, values = inputs(kv_heads=4)
    layer = Relaxed(0.3, std=0.2)
    for seed in range(5):
        torch.manual_seed(seed)
        result, weights = layer(query, keys, values, bias_of("of queries"), need_weights=True)
        torch.testing.assert_close(result, weights @ values)
        torch.manual_seed(seed)
        torch.testing.assert_close(layer(query, keys, values, bias_of("of queries"))[0], result)


def test_dropout_leaves_the_even_part() -> None:
    query, keys, values = inputs(kv_heads=4)
    result, _ = Relaxed(0.3)(query, keys, values, None, dropout=1.0)
    torch.testing.assert_close(result, 0.3 * values.mean(dim=2, keepdim=True).expand_as(query))
