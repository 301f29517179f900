"""Temporal latent attention equals its equation, a token at a time too, and its cache is small."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peers import transformers
from toy import toy_memory

from s2s.errors import UserError
from s2s.models.build import build
from s2s.models.transformer_decoder import TransformerDecoder
from s2s.nn.attention.attention import Attention
from s2s.nn.attention.cache import RESERVE
from s2s.nn.attention.config import AttentionConfig
from s2s.nn.attention.temporal_latent import TemporalLatent
from s2s.nn.positions import sinusoidal

DECODER = {
    "_target_": "s2s.models.transformer_decoder.TransformerDecoder",
    "vocab_size": 7,
    "memory_dim": 16,
    "model_dim": 16,
    "num_layers": 2,
    "num_heads": 2,
    "feed_forward_dim": 16,
}


def attention(stride: int, latent_dim: int | None = None, positions: str = "none", **options: Any) -> Attention:
    config = AttentionConfig(projection="temporal_latent", latent_dim=latent_dim, latent_stride=stride, **options)
    layer = Attention(8, 2, config=config, positions=positions)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    return layer.double().eval()


def plain(layer: Attention, x: torch.Tensor) -> torch.Tensor:
    """x (U,8) -> (U,8), one head and one token at a time (Deng and Woodland 2025, eq. 9 to 17)."""
    heads = layer.heads
    assert isinstance(heads, TemporalLatent)
    stride, size = heads.stride, len(x)
    latents = [heads.norm(heads.latent(token)) for token in x]
    weights = []
    for i, latent in enumerate(latents):
        place = sinusoidal(torch.tensor(i // stride), heads.width)[: heads.width].double()
        weights.append(1 / (1 + (-heads.content_weight(latent) @ heads.chunk_weight(place)).exp()))
    merged = []
    for i in range(size):
        first = i // stride * stride
        merged.append(sum(weights[k] * latents[k] for k in range(first, i + 1)))
    found = torch.zeros(size, 8).double()
    for h in range(2):
        own = slice(4 * h, 4 * h + 4)
        for i in range(size):
            seen = [j for j in range(i + 1) if (j + 1) % stride == 0 or j == i]
            query = heads.query(x[i])[own]
            scores = [query @ (heads.key.weight[own] @ merged[j]) / math.sqrt(4) for j in seen]
            shares = torch.stack(scores).softmax(0)
            found[i, own] = sum(p * (heads.value.weight[own] @ merged[j]) for p, j in zip(shares, seen, strict=True))
    return heads.out(found)


@given(
    num_tokens=st.integers(1, 9),
    stride=st.integers(1, 4),
    latent_dim=st.sampled_from([None, 1, 2, 5]),
    seed=st.integers(0, 99),
)
@settings(max_examples=15)
def test_it_equals_its_equation(num_tokens: int, stride: int, latent_dim: int | None, seed: int) -> None:
    torch.manual_seed(seed)
    layer, x = attention(stride, latent_dim), torch.randn(2, num_tokens, 8).double()
    found = layer.within(x, causal=True)
    for b in range(2):
        torch.testing.assert_close(found[b], plain(layer, x[b]))


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_it_equals_the_authors_own(stride: int) -> None:
    transformers()
    theirs = pytest.importorskip("mtla").MultiheadTemporalLatentAttention(
        8, 2, kv_lora_rank=6, qk_nope_head_dim=4, qk_rope_head_dim=0, v_head_dim=4, down_rate=stride
    )
    torch.manual_seed(0)
    theirs, ours = theirs.double().eval(), attention(stride, 6)
    heads: Any = ours.heads
    up = theirs.wkv_b.weight.unflatten(0, (2, 8))
    with torch.no_grad():
        for layer in (heads.query, heads.latent, heads.out):
            layer.bias.zero_()
        heads.query.weight.copy_(theirs.wq.weight)
        heads.latent.weight.copy_(theirs.wkv_a.weight)
        heads.key.weight.copy_(up[:, :4].flatten(0, 1))
        heads.value.weight.copy_(up[:, 4:].flatten(0, 1))
        heads.out.weight.copy_(theirs.wo.weight)
    heads.norm.load_state_dict(theirs.kv_norm.state_dict())
    heads.content_weight.load_state_dict(theirs.hypernet_down.fc_p.state_dict())
    heads.chunk_weight.load_state_dict(theirs.hypernet_down.fc_c.state_dict())
    x, positions = torch.randn(2, 11, 8).double(), torch.arange(11.0).double().expand(2, -1)
    torch.testing.assert_close(ours.within(x, causal=True), theirs(x, x, x, position=positions))


def test_without_a_stride_it_sees_all_tokens_before() -> None:
    layer = attention(1)
    positions = torch.arange(5)
    assert layer.heads.shown(positions, positions).all()  # type: ignore[union-attr]


def decoder(strides: list[int], positions: str = "sinusoidal", **options: Any) -> TransformerDecoder:
    torch.manual_seed(0)
    configs = [{"projection": "temporal_latent", "latent_stride": s, **options} if s else {} for s in strides]
    model = build({**DECODER, "num_layers": len(strides), "positions": positions, "self_attention": configs})
    assert isinstance(model, TransformerDecoder)
    for parameter in model.parameters():
        if parameter.dim() == 1:
            torch.nn.init.normal_(parameter)
    return model.double().eval()


@given(
    prompts=st.lists(st.integers(0, 9), min_size=1, max_size=3),
    more=st.integers(0, 3),
    beam_size=st.integers(1, 3),
    strides=st.sampled_from([[2], [3, 3], [2, 4], [2, 0], [4]]),
    positions=st.sampled_from(["sinusoidal", "none", "alibi", "relative"]),
    seed=st.integers(0, 99),
)
@settings(max_examples=10)
def test_rows_go_on_from_prompts_of_any_lengths_as_all_at_once_says(
    prompts: list[int], more: int, beam_size: int, strides: list[int], positions: str, seed: int
) -> None:
    model, chance = decoder(strides, positions), random.Random(seed)
    memory = toy_memory([chance.randint(1, 6) for _ in prompts], seed)
    past = [[chance.randrange(7) for _ in range(length)] for length in prompts]
    state = model.start(memory, beam_size)
    if size := max(prompts) + more:
        tokens = torch.tensor([[*prompt, *[6] * (size - len(prompt))] for prompt in past])
        hidden = model.prompt(tokens, torch.tensor(prompts), state)
        for b, prompt in enumerate(past):
            if prompt:
                expected = model(memory.rows(b, b + 1), torch.tensor([prompt]))[0]
                torch.testing.assert_close(model.log_probs(hidden)[b, : len(prompt)], expected)
    past = [list(prompt) for prompt in past for _ in range(beam_size)]
    for _ in range(RESERVE + 5):
        new = [chance.choice([-1, 2, 3, 4, 5, 6]) for _ in past]
        found, state = model.step(torch.tensor(new), state)
        for n, token in enumerate(new):
            if token >= 0:
                past[n].append(token)
                b = n // beam_size
                expected = model(memory.rows(b, b + 1), torch.tensor([past[n]]))[0, -1]
                torch.testing.assert_close(found[n], expected)
        parents = [n // beam_size * beam_size + chance.randrange(beam_size) for n in range(len(past))]
        state, past = model.select(state, torch.tensor(parents)), [list(past[p]) for p in parents]


@pytest.mark.parametrize(("strides", "kept"), [([4, 4], 4), ([2, 4], 2), ([4, 0], 1), ([2, 3], 1)])
def test_entries_that_no_token_to_come_can_see_are_cleared_away(strides: list[int], kept: int) -> None:
    model, steps = decoder(strides), 120
    state = model.start(toy_memory([3]), 1)
    for _ in range(steps):
        _, state = model.step(torch.tensor([4]), state)
    full = steps // kept
    entries = state.past.layers[0][0].size(2)
    assert full <= entries <= 1.5 * full + 2 * RESERVE
    assert state.past.layers[0][0].shape[1::2] == (1, 4 * 8)


def test_the_cache_of_a_beam_is_smaller_too() -> None:
    sizes = []
    for strides in ([4], [1]):
        model, chance = decoder(strides), random.Random(0)
        state = model.start(toy_memory([3]), 4)
        for _ in range(100):
            _, state = model.step(torch.tensor([chance.randrange(2, 7) for _ in range(4)]), state)
            state = model.select(state, torch.tensor([chance.randrange(4) for _ in range(4)]))
        sizes.append(state.past.ancestors.size(2))
    assert 2 * sizes[0] < sizes[1]


@pytest.mark.parametrize("reach", [{"reach": "limited", "left": 3, "right": 0}, {"reach": "chunked", "chunk_size": 3}])
def test_a_short_reach_leaves_a_token_itself_and_the_ends_of_near_chunks(reach: dict[str, Any]) -> None:
    torch.manual_seed(0)
    layer, x = attention(2, **reach), torch.randn(1, 9, 8).double()
    changed = x.clone()
    changed[:, 3] += 1.0  # the end of a chunk: itself, and who sees that place
    moved = (layer.within(x, causal=True) - layer.within(changed, causal=True)).abs().sum(-1)[0] > 1e-9
    sees = {3, 4, 5, 6} if reach["reach"] == "limited" else {3, 4, 5, 6, 7, 8}
    assert set(moved.nonzero().flatten().tolist()) == sees


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({**DECODER, "cross_attention": {"projection": "temporal_latent"}}, r"self-attention of decoders"),
        (
            {
                "_target_": "s2s.models.transformer_encoder.TransformerEncoder",
                "front": {"_target_": "s2s.nn.subsampling.ConvolutionFront", "input_dim": 8, "model_dim": 16},
                "model_dim": 16,
                "attention": {"projection": "temporal_latent"},
            },
            r"self-attention of decoders",
        ),
        ({**DECODER, "positions": "rotary", "self_attention": {"projection": "temporal_latent"}}, r"positions=rotary"),
        (
            {**DECODER, "self_attention": {"projection": "temporal_latent", "knocking": True}},
            r"self_attention.knocking=True: has no effect with projection=temporal_latent",
        ),
        ({**DECODER, "self_attention": {"latent_stride": 4}}, r"latent_stride=4: has no effect with projection=multi"),
    ],
)
def test_it_is_refused_where_it_makes_no_sense(config: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(config)
    with pytest.raises(UserError, match=r"is for self-attention"):
        Attention(8, 2, config=AttentionConfig(projection="temporal_latent"), over_memory=True)
