from __future__ import annotations

import random

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import toy_memory

from s2s.models.memory import Memory
from s2s.models.transformer_decoder import TransformerDecoder
from s2s.nn.positions import sinusoidal


def decoder(seed: int = 0, memory_dim: int = 16) -> TransformerDecoder:
    torch.manual_seed(seed)
    return TransformerDecoder(7, memory_dim, 16, 2, 4, 32).double().eval()


@given(lengths=st.lists(st.integers(1, 6), min_size=1, max_size=3), size=st.integers(1, 6), seed=st.integers(0, 99))
def test_one_token_at_a_time_gives_the_numbers_of_all_at_once(lengths: list[int], size: int, seed: int) -> None:
    model, memory = decoder(seed), toy_memory(lengths, seed)
    tokens = torch.randint(7, (len(lengths), size))
    expected = model(memory, tokens)
    state = model.start(memory, 1)
    for position in range(size):
        found, state = model.step(tokens[:, position], state)
        torch.testing.assert_close(found, expected[:, position])


def test_rows_that_change_parents_go_on_as_their_parents() -> None:
    model, memory = decoder(), toy_memory([5, 3])
    state = model.start(memory, 2)  # rows: utterance 0 twice, utterance 1 twice
    first = torch.tensor([2, 2, 2, 2])
    model.step(first, state)
    second = torch.tensor([3, 4, 5, 6])
    model.step(second, state)
    parents = torch.tensor([1, 1, 3, 2])
    state = model.select(state, parents)
    third = torch.tensor([3, 5, 3, 4])
    found, _ = model.step(third, state)
    sequences = torch.stack([first[parents], second[parents], third], dim=1)
    wide = Memory(memory.states.repeat_interleave(2, 0), memory.lengths.repeat_interleave(2, 0))
    torch.testing.assert_close(found, model(wide, sequences)[:, -1])


@given(
    lengths=st.lists(st.integers(1, 6), min_size=2, max_size=4),
    beam_size=st.integers(1, 3),
    steps=st.integers(1, 30),
    seed=st.integers(0, 99),
)
@settings(max_examples=15)
def test_rows_that_grow_or_stay_change_parents_leave_and_join_go_on_as_their_own_past_says(
    lengths: list[int], beam_size: int, steps: int, seed: int
) -> None:
    model, chance = decoder(seed), random.Random(seed)
    memories = [toy_memory([length], seed + i) for i, length in enumerate(lengths)]
    state = model.start(memories[0], beam_size, need_attention=True)
    present = [0]  # utterance of each block of rows
    past: list[list[int]] = [[] for _ in range(beam_size)]
    waiting = list(range(1, len(memories)))
    for _ in range(steps):
        if waiting and chance.random() < 0.3:
            present.append(waiting.pop(0))
            state = model.join(state, model.start(memories[present[-1]], beam_size, need_attention=True))
            past += [[] for _ in range(beam_size)]
        tokens = [chance.choice([-1, 2, 3, 4, 5, 6]) for _ in past]
        found, state = model.step(torch.tensor(tokens), state)
        for n, token in enumerate(tokens):
            if token >= 0:
                past[n].append(token)
                memory = memories[present[n // beam_size]]
                torch.testing.assert_close(found[n], model(memory, torch.tensor([past[n]]))[0, -1])
                looked = model.attention(memory, torch.tensor([past[n]]))[0, -1]
                assert state.attention is not None
                b, k = divmod(n, beam_size)
                torch.testing.assert_close(state.attention[b, k, : looked.numel()], looked)
        staying = [b for b in range(len(present)) if chance.random() < 0.9] or [0]
        parents = [b * beam_size + chance.randrange(beam_size) for b in staying for _ in range(beam_size)]
        utterances = torch.tensor(staying) if len(staying) < len(present) else None
        state = model.select(state, torch.tensor(parents), utterances)
        present, past = [present[b] for b in staying], [list(past[p]) for p in parents]


def test_the_past_takes_no_more_room_than_the_hypotheses_need() -> None:
    model, memory = decoder(), toy_memory([5])
    state = model.start(memory, 4)
    for _ in range(200):
        model.step(torch.full((4,), 3), state)
        state = model.select(state, torch.zeros(4, dtype=torch.long))  # all go on from one: its past is all there is
    assert state.past.positions.tolist() == [[200] * 4]
    assert state.past.keys.size(3) < 2 * 200


def test_memory_past_the_end_changes_nothing() -> None:
    model, memory = decoder(), toy_memory([5, 3])
    tokens = torch.randint(7, (1, 4))
    alone = Memory(memory.states[1:, :3], memory.lengths[1:])
    torch.testing.assert_close(model(memory, tokens.expand(2, -1))[1:], model(alone, tokens))


def test_the_layers_equal_those_of_torch() -> None:
    model, memory = decoder(), toy_memory([5, 5])
    tokens = torch.randint(7, (2, 4))
    x = model.embedding(tokens) * 4.0 + sinusoidal(torch.arange(4), 16).double()
    causal = torch.nn.Transformer.generate_square_subsequent_mask(4, dtype=torch.float64)
    for layer in model.layers:
        theirs = torch.nn.TransformerDecoderLayer(16, 4, 32, 0.0, norm_first=True, batch_first=True).double().eval()
        with torch.no_grad():
            for ours, attention in (
                (layer.self_attention.heads, theirs.self_attn),
                (layer.memory_attention.heads, theirs.multihead_attn),
            ):
                attention.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key.weight, ours.value.weight]))
                attention.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.key.bias, ours.value.bias]))
                attention.out_proj.load_state_dict(ours.out.state_dict())
            theirs.linear1.load_state_dict(layer.feed_forward.expand.state_dict())
            theirs.linear2.load_state_dict(layer.feed_forward.contract.state_dict())
        x = theirs(x, memory.states, tgt_mask=causal)
    torch.testing.assert_close(model(memory, tokens), model.out(model.norm(x)).log_softmax(-1))


def test_an_encoder_of_another_width_is_projected() -> None:
    memory = toy_memory([4], dim=24)
    assert decoder(memory_dim=24)(memory, torch.tensor([[2, 4]])).shape == (1, 2, 7)
