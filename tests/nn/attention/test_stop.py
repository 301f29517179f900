"""Attention whose heads stop: its expectations and its decisions, against what they are made of."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from toy_monotonic import enumerated

from s2s.errors import UserError
from s2s.nn.attention.attention import Attention
from s2s.nn.attention.config import AttentionConfig
from s2s.nn.attention.stop import Stops
from s2s.nn.lengths import valid_mask

KINDS: dict[str, dict[str, Any]] = {
    "hard": {"lookback": "none"},
    "hard, shared keys": {"lookback": "none", "kv_heads": 1},
    "chunk": {"lookback": "chunk", "lookback_frames": 2},
    "infinite": {},
    "infinite, keys only": {"projection": "keys_only"},
    "infinite, shared keys": {"projection": "weighted_grouped", "kv_heads": 1},
}


def attention(kind: str, seed: int = 0, **options: Any) -> Attention:
    """Two heads that stop after a few frames or many."""
    torch.manual_seed(seed)
    config = AttentionConfig(kind="monotonic", **{"stop_bias": -1.0, **KINDS[kind], **options})
    layer = Attention(8, 2, config=config, over_memory=True).double()
    with torch.no_grad():
        for each in stop_parameters(layer)[:2]:
            each *= 8
        layer.stop.bias += 0.5 * torch.randn(2, 1, 1)  # type: ignore[union-attr]
    return layer


def stop_parameters(layer: Attention) -> list[Tensor]:
    """What the energies are linear in."""
    assert layer.stop is not None
    query = layer.heads.query if layer.stop.query is None else layer.stop.query
    return [query.weight, query.bias, layer.stop.bias]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def heads_of(x: Tensor, layer: torch.nn.Linear, num_heads: int = 2) -> Tensor:
    return layer(x).unflatten(-1, (num_heads, -1)).transpose(1, 2)


@pytest.mark.parametrize("kind", ["hard", "chunk", "infinite"])
@given(
    num_tokens=st.integers(1, 3), lengths=st.lists(st.integers(1, 5), min_size=1, max_size=3), seed=st.integers(0, 99)
)
@settings(max_examples=5)
def test_in_training_it_is_the_sum_over_all_alignments_and_what_did_not_stop_reads_to_the_end(
    kind: str, num_tokens: int, lengths: list[int], seed: int
) -> None:
    layer, size = attention(kind, seed).train(), len(lengths)
    x, states = random(size, num_tokens, 8, seed=seed), random(size, max(lengths), 8, seed=seed + 1)
    mask = valid_mask(torch.tensor(lengths), max(lengths))[:, None, None]
    stops = Stops()
    found, weights = layer.over(x, layer.project(states), mask, need_weights=True, stops=stops)
    assert weights is not None
    assert stops.alignment is not None
    heads, stop = layer.heads, layer.stop
    scores = heads_of(x, heads.query) @ heads_of(states, heads.key).transpose(-2, -1) / 2.0
    energies = scores
    if stop.query is not None:  # type: ignore[union-attr]
        energies = heads_of(x, stop.query) @ heads_of(states, stop.key).transpose(-2, -1) / 2.0  # type: ignore[union-attr, arg-type]
    energies = energies + stop.bias  # type: ignore[union-attr]
    back = {"hard": 1, "chunk": 2, "infinite": 99}[kind]
    expected = torch.zeros_like(weights)
    for b, length in enumerate(lengths):
        energies[b, :, :, length - 1] = math.inf
        for h in range(2):
            alignment, expected[b, h, :, :length] = enumerated(
                energies[b, h, :, :length].detach(),
                scores[b, h, :, :length].detach(),
                lambda t: range(max(0, t + 1 - back), t + 1),
            )
            torch.testing.assert_close(stops.alignment[b, h, :, :length], alignment)
    torch.testing.assert_close(weights, expected)
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(size, 2, num_tokens).double())
    torch.testing.assert_close(found, heads.join(expected @ heads_of(states, heads.value)))


@pytest.mark.parametrize("kind", KINDS)
def test_sharp_energies_are_in_training_what_they_are_after_it(kind: str) -> None:
    layer, x, states = attention(kind), random(2, 5, 8), random(2, 9, 8, seed=1)
    mask = valid_mask(torch.tensor([9, 6]), 9)[:, None, None]
    expected, weights = layer.eval().over(x, layer.project(states), mask, need_weights=True)
    soft = layer.train().over(x, layer.project(states), mask)[0]
    assert float((soft - expected).detach().abs().max()) > 0.01
    with torch.no_grad():
        for each in stop_parameters(layer):
            each *= 1e6
    found, found_weights = layer.over(x, layer.project(states), mask, need_weights=True)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(found_weights, weights)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("training", [True, False])
def test_an_utterance_has_the_same_alone_and_in_any_batch(kind: str, training: bool) -> None:
    layer, x, states = attention(kind).train(training), random(3, 4, 8), random(3, 7, 8, seed=1)
    lengths = [4, 7, 1]
    mask = valid_mask(torch.tensor(lengths), 7)[:, None, None]
    together, weights = layer.over(x, layer.project(states), mask, need_weights=True)
    assert weights is not None
    for b, length in enumerate(lengths):
        own = layer.project(states[b : b + 1, :length])
        alone, own_weights = layer.over(x[b : b + 1], own, None, need_weights=True)
        torch.testing.assert_close(together[b : b + 1], alone)
        torch.testing.assert_close(weights[b : b + 1, ..., :length], own_weights)
        assert not weights[b, ..., length:].any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("training", [True, False])
def test_rows_of_an_utterance_each_have_their_own_alignment(kind: str, training: bool) -> None:
    layer, x, states = attention(kind).train(training), random(2, 3, 4, 8), random(2, 7, 8, seed=1)
    stops = Stops(rows=3)
    together, _ = layer.over(x.flatten(1, 2), layer.project(states), None, stops=stops)
    for k in range(3):
        own = Stops()
        alone, _ = layer.over(x[:, k], layer.project(states), None, stops=own)
        torch.testing.assert_close(together.unflatten(1, (3, 4))[:, k], alone)
        torch.testing.assert_close(stops.frames[:, k], own.frames[:, 0])


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_of_a_search_go_on_from_where_heads_stopped(kind: str) -> None:
    layer, x, states = attention(kind, head_wait=5).eval(), random(2, 6, 8), random(2, 40, 8, seed=1)
    whole = Stops()
    expected, _ = layer.over(x, layer.project(states), None, stops=whole)
    assert len(set(whole.frames.flatten().tolist())) > 3
    before = torch.zeros(2, 1, 2, dtype=torch.long)
    layer.train()  # a search decides in training too
    for i in range(6):
        stops = Stops(before=before)
        found, _ = layer.over(x[:, i : i + 1], layer.project(states), None, stops=stops)
        torch.testing.assert_close(found, expected[:, i : i + 1])
        before = stops.frames[:, :, 0]
        assert torch.equal(before, whole.frames[:, :, i])


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_in_training_are_those_of_small_differences(kind: str) -> None:
    layer, x, states = attention(kind).train(), random(2, 3, 8).requires_grad_(), random(2, 4, 8, seed=1)
    mask = valid_mask(torch.tensor([4, 3]), 4)[:, None, None]
    names = [name for name, _ in layer.named_parameters()]

    def run(x: Tensor, states: Tensor, *parameters: Tensor) -> Tensor:
        class Over(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.layer = layer

            def forward(self) -> Tensor:
                return self.layer.over(x, self.layer.project(states), mask)[0]

        own = {f"layer.{name}": each for name, each in zip(names, parameters, strict=True)}
        result: Tensor = torch.func.functional_call(Over(), own)
        return result

    given = [each.detach().requires_grad_() for each in layer.parameters()]
    assert torch.autograd.gradcheck(run, (x, states.requires_grad_(), *given), fast_mode=True)


def test_noise_is_for_training() -> None:
    layer, quiet, x, states = (
        attention("infinite", stop_noise=2.0),
        attention("infinite"),
        random(1, 4, 8),
        random(1, 9, 8),
    )
    layer.load_state_dict(quiet.state_dict())
    torch.testing.assert_close(
        layer.eval().over(x, layer.project(states), None), quiet.eval().over(x, quiet.project(states), None)
    )
    noisy = [layer.train().over(x, layer.project(states), None)[0] for _ in range(2)]
    assert not torch.allclose(*noisy)
    assert not torch.allclose(noisy[0], quiet.train().over(x, quiet.project(states), None)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_mixed_precision_decides_and_expects_in_float32(kind: str) -> None:
    layer, x, states = attention(kind).float().train(), random(2, 4, 8).float(), random(2, 50, 8, seed=1).float()
    expected = layer.over(x, layer.project(states), None)[0]
    stops = Stops()
    with torch.autocast("cpu", torch.bfloat16):
        found = layer.over(x, layer.project(states), None, stops=stops)[0]
    assert stops.alignment is not None
    assert stops.alignment.dtype == torch.float32
    torch.testing.assert_close(stops.alignment.sum(dim=-1), torch.ones(2, 2, 4))
    torch.testing.assert_close(found.float(), expected, rtol=0.1, atol=0.1)
    found.float().sum().backward()
    assert all(bool(each.grad.isfinite().all()) for each in layer.parameters() if each.grad is not None)


def test_a_bias_may_be_a_whole_number() -> None:
    layer = Attention(8, 2, config=AttentionConfig(kind="monotonic", stop_bias=-3), over_memory=True)
    assert layer.stop is not None
    torch.testing.assert_close(layer.stop.bias, torch.full((2, 1, 1), -3.0))


def test_what_is_kept_of_a_frame_is_told() -> None:
    for kind, more in (("infinite", 1), ("hard", 0)):
        layer = attention(kind)
        kept = layer.project(random(2, 5, 8))
        assert [(each.size(1), each.size(3)) for each in kept] == layer.cached_shapes()
        assert len(kept) == 2 + more


@pytest.mark.parametrize(
    ("options", "over_memory", "message"),
    [
        ({}, False, r"kind=monotonic: is for the cross-attention"),
        ({"reach": "strided", "stride": 2}, True, r"reach=strided: a head of kind=monotonic stops at any frame"),
    ],
)
def test_where_heads_cannot_stop_is_refused(options: dict[str, Any], over_memory: bool, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Attention(8, 2, config=AttentionConfig(kind="monotonic", **options), over_memory=over_memory)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "monotonic", "lookback": "all"}, r"^lookback=all: expected one of none, chunk, infinite"),
        ({"lookback": "none"}, r"^lookback=none: has no effect with kind=softmax, only with monotonic"),
        ({"kind": "monotonic", "lookback_frames": 4}, r"^lookback_frames=4: has no effect with lookback=infinite"),
        ({"kind": "monotonic", "lookback": "chunk", "lookback_frames": 0}, r"^lookback_frames=0: expected at least 1"),
        ({"stop_bias": -1.0}, r"^stop_bias=-1\.0: has no effect with kind=softmax"),
        ({"kind": "monotonic", "stop_noise": -1.0}, r"^stop_noise=-1\.0: expected at least 0"),
        ({"head_wait": 3}, r"^head_wait=3: has no effect with kind=softmax"),
        ({"kind": "monotonic", "head_wait": -1}, r"^head_wait=-1: expected at least 0"),
    ],
)
def test_a_value_that_is_wrong_or_without_effect_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        AttentionConfig(**options)
