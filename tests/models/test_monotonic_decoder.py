"""A Transformer decoder whose heads stop in the memory: how far it reads, in search and at once."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import toy_memory
from toy_monotonic import monotonic_decoder

from s2s.errors import UserError
from s2s.models.lstm_decoder import LSTMDecoder
from s2s.models.memory import Memory
from s2s.models.transformer_decoder import TransformerDecoder
from s2s.nn.attention.config import AttentionConfig

KINDS: dict[str, dict[str, Any]] = {
    "hard": {"lookback": "none"},
    "chunk": {"lookback": "chunk", "lookback_frames": 3},
    "infinite": {},
    "waiting": {"head_wait": 2},
}


def cut(memory: Memory, size: int) -> Memory:
    return Memory(memory.states[:, :size], memory.lengths.clamp(max=size))


@pytest.mark.parametrize("kind", KINDS)
def test_heads_stop_where_the_definition_says_and_never_go_back(kind: str) -> None:
    model, memory = monotonic_decoder(**KINDS[kind]), toy_memory([20, 9])
    tokens = torch.randint(7, (4, 6), generator=torch.Generator().manual_seed(1))
    stops = model.stops(memory, tokens)
    assert stops.shape == (4, 4, 6)  # two heads of two layers
    assert len(stops.unique()) > 4
    assert bool((stops.diff(dim=-1) >= 0).all())
    assert bool((stops[:2] < 20).all())
    assert bool((stops[2:] < 9).all())
    for heads in stops.split(2, dim=1):  # of a layer
        apart = (heads[:, 0] - heads[:, 1]).abs().max()
        assert kind != "waiting" or apart <= 2
    weights = model.read(memory, tokens, [(0, 0), (0, 1), (1, 0), (1, 1)])[1]
    seen = weights > 0
    frames = torch.arange(20)
    back = {"hard": 1, "chunk": 3}.get(kind, 99)
    at = stops.unsqueeze(-1)
    assert torch.equal(seen, (frames <= at) & (frames > at - back))


@pytest.mark.parametrize("kind", KINDS)
@given(seed=st.integers(0, 99), size=st.integers(2, 19))
@settings(max_examples=8)
def test_what_was_predicted_before_the_end_of_what_was_heard_stays(kind: str, seed: int, size: int) -> None:
    model, memory = monotonic_decoder(seed=seed, **KINDS[kind]), toy_memory([20], seed)
    tokens = torch.randint(7, (1, 6), generator=torch.Generator().manual_seed(seed))
    heard = cut(memory, size)
    found, stops = model(heard, tokens), model.stops(heard, tokens)
    whole, later = model(memory, tokens), model.stops(memory, tokens)
    settled = (stops < size - 1).all(dim=1)[0]
    torch.testing.assert_close(found[0, settled], whole[0, settled])
    assert torch.equal(stops[:, :, settled], later[:, :, settled])


@pytest.mark.parametrize("kind", KINDS)
@given(beam_size=st.integers(1, 3), steps=st.integers(1, 12), seed=st.integers(0, 99))
@settings(max_examples=4)
def test_a_search_knows_where_the_heads_of_each_hypothesis_stopped(
    kind: str, beam_size: int, steps: int, seed: int
) -> None:
    model, chance = monotonic_decoder(seed=seed, **KINDS[kind]), random.Random(seed)
    memories = [toy_memory([length], seed + i) for i, length in enumerate((15, 8, 20))]
    state = model.start(memories[0], beam_size)
    prompt = [chance.randrange(7) for _ in range(3)]
    model.prompt(torch.tensor([[*prompt, 0]]), torch.tensor([3]), state)
    present, past = [0], [list(prompt) for _ in range(beam_size)]
    waiting = [1, 2]
    for _ in range(steps):
        if waiting and chance.random() < 0.3:
            present.append(waiting.pop(0))
            state = model.join(state, model.start(memories[present[-1]], beam_size))
            past += [[] for _ in range(beam_size)]
        tokens = [chance.choice([-1, 2, 3, 4, 5, 6]) for _ in past]
        _, state = model.step(torch.tensor(tokens), state)
        past = [own + [token] * (token >= 0) for own, token in zip(past, tokens, strict=True)]
        stopped = state.past.stopped.flatten(0, 1)
        for n, own in enumerate(past):
            expected = [0] * 4
            if own:
                expected = model.stops(memories[present[n // beam_size]], torch.tensor([own]))[0, :, -1].tolist()
            assert stopped[n].tolist() == expected
        staying = [b for b in range(len(present)) if chance.random() < 0.9] or [0]
        parents = [b * beam_size + chance.randrange(beam_size) for b in staying for _ in range(beam_size)]
        utterances = torch.tensor(staying) if len(staying) < len(present) else None
        state = model.select(state, torch.tensor(parents), utterances)
        present, past = [present[b] for b in staying], [list(past[p]) for p in parents]


def test_sharp_energies_are_in_training_what_they_are_after_it() -> None:
    for kind in ("hard", "chunk", "infinite"):
        model, memory = monotonic_decoder(**KINDS[kind]), toy_memory([12, 7])
        tokens = torch.randint(7, (4, 5), generator=torch.Generator().manual_seed(0))
        expected = model(memory, tokens)
        assert not torch.allclose(model.train()(memory, tokens), expected, atol=0.01)
        with torch.no_grad():
            for layer in model.layers:
                stop, heads = layer.memory_attention.stop, layer.memory_attention.heads
                query = heads.query if stop.query is None else stop.query  # type: ignore[union-attr]
                for each in (query.weight, query.bias, stop.bias):  # type: ignore[union-attr]
                    each *= 1e7
        torch.testing.assert_close(model(memory, tokens), expected)


def test_a_soft_decoder_has_all_weights_but_those_that_decide_on_stops() -> None:
    torch.manual_seed(0)
    soft, monotonic = TransformerDecoder(7, 16, 16, 2, 2, 32), monotonic_decoder()
    missing, unexpected = monotonic.load_state_dict(soft.state_dict(), strict=False)
    assert not unexpected
    assert missing
    assert all(".memory_attention.stop." in name for name in missing)


def test_layers_may_differ() -> None:
    configs = [AttentionConfig(kind="monotonic", num_heads=3, head_dim=4), AttentionConfig()]
    torch.manual_seed(0)
    model, memory = TransformerDecoder(7, 16, 16, 4, 2, 32, cross_attention=configs).double().eval(), toy_memory([9])
    assert model.stopping_heads == {0: 3, 2: 3}
    assert model.stops(memory, torch.tensor([[2, 3]])).shape == (1, 6, 2)


def test_decoders_whose_heads_do_not_stop_say_so() -> None:
    soft = TransformerDecoder(7, 16, 16, 1, 2, 32)
    with pytest.raises(UserError, match=r"no head of this decoder stops: .*cross_attention\.kind=monotonic"):
        soft.stops(toy_memory([3]), torch.tensor([[2]]))
    with pytest.raises(UserError, match=r"cross_attention\.kind=monotonic: is for Transformer decoders"):
        LSTMDecoder(7, 16, 16, cross_attention=AttentionConfig(kind="monotonic"))
