from __future__ import annotations

import random
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from toy import toy_memory

from s2s.errors import UserError
from s2s.models.memory import Memory
from s2s.models.transformer_decoder import TransformerDecoder
from s2s.nn.attention.config import AttentionConfig
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
    assert state.past.layers[0][0].size(2) < 2 * 200


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


# What other people's models have: every pair of values of two options is in one of these.
OPTIONS = [
    {"positions": "learned" if positions else "sinusoidal", "max_positions": positions}
    | {"pre_norm": pre_norm, "tie_output": tied}
    | {"final_norm": pre_norm != tied, "norm_embedding": tied == (positions == 0), "scale_embedding": pre_norm}
    | {"activation": "gelu" if positions else "relu", "out_bias": pre_norm == (positions == 0)}
    for positions, pre_norm, tied in product((0, 60), (True, False), (True, False))
]
# Heads that stop in the memory, of some layers or all.
HARD, LOOKING_BACK = (AttentionConfig(kind="monotonic", lookback=each, stop_bias=-0.5) for each in ("none", "infinite"))
OPTIONS += [{"cross_attention": LOOKING_BACK}, {"cross_attention": [HARD, AttentionConfig()], "pre_norm": False}]


def other(options: dict[str, object], seed: int = 0) -> TransformerDecoder:
    """A decoder with these options, whose biases and norms are random too."""
    torch.manual_seed(seed)
    model = TransformerDecoder(7, 16, 16, 2, 4, 32, **options)  # type: ignore[arg-type]
    for parameter in model.parameters():
        if parameter.dim() == 1:
            torch.nn.init.normal_(parameter)
    return model.double().eval()


@given(
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    size=st.integers(1, 6),
    options=st.sampled_from(OPTIONS),
    seed=st.integers(0, 99),
)
@settings(max_examples=20)
def test_with_any_options_one_token_at_a_time_gives_the_numbers_of_all_at_once(
    lengths: list[int], size: int, options: dict[str, object], seed: int
) -> None:
    model, memory = other(options, seed), toy_memory(lengths, seed)
    tokens = torch.randint(7, (len(lengths), size))
    expected = model(memory, tokens)
    torch.testing.assert_close(expected.exp().sum(dim=-1), torch.ones(len(lengths), size).double())
    state = model.start(memory, 1)
    for position in range(size):
        found, state = model.step(tokens[:, position], state)
        torch.testing.assert_close(found, expected[:, position])
    for b, length in enumerate(lengths):
        alone = Memory(memory.states[b : b + 1, :length], memory.lengths[b : b + 1])
        torch.testing.assert_close(expected[b : b + 1], model(alone, tokens[b : b + 1]))


@given(
    prompts=st.lists(st.integers(0, 20), min_size=2, max_size=4),
    more=st.integers(0, 3),
    beam_size=st.integers(1, 3),
    steps=st.integers(1, 20),
    options=st.sampled_from(OPTIONS),
    seed=st.integers(0, 99),
)
@settings(max_examples=12)
def test_rows_go_on_from_prompts_of_any_lengths_as_their_own_past_says(
    prompts: list[int], more: int, beam_size: int, steps: int, options: dict[str, object], seed: int
) -> None:
    model, chance = other(options, seed), random.Random(seed)
    memory = toy_memory([chance.randint(1, 6) for _ in prompts], seed)
    memories = [memory.rows(b, b + 1) for b in range(len(prompts))]
    given_tokens = [[chance.randrange(7) for _ in range(length)] for length in prompts]
    joining = len(prompts) // 2  # the first of those that join later, each alone

    def begun(memory: Memory, prompts: list[list[int]], more: int = 0) -> object:
        state = model.start(memory, beam_size, need_attention=True)
        size = max(map(len, prompts)) + more
        if size:
            tokens = torch.tensor([[*prompt, *[6] * (size - len(prompt))] for prompt in prompts])
            hidden = model.prompt(tokens, torch.tensor(list(map(len, prompts))), state)
            for b, prompt in enumerate(prompts):
                if prompt:  # what comes after it, by all at once
                    found = model.logits(hidden)[b, : len(prompt)].log_softmax(-1)
                    torch.testing.assert_close(found, model(memory.rows(b, b + 1), torch.tensor([prompt]))[0])
        return state

    state = begun(memory.rows(0, joining), given_tokens[:joining], more)
    present, waiting = list(range(joining)), list(range(joining, len(prompts)))
    past = [list(given_tokens[b]) for b in present for _ in range(beam_size)]
    for _ in range(steps):
        if waiting and chance.random() < 0.3:
            present.append(waiting.pop(0))
            state = model.join(state, begun(memories[present[-1]], [given_tokens[present[-1]]]))  # type: ignore[arg-type]
            past += [list(given_tokens[present[-1]]) for _ in range(beam_size)]
        tokens = [chance.choice([-1, 2, 3, 4, 5, 6]) for _ in past]
        found, state = model.step(torch.tensor(tokens), state)  # type: ignore[arg-type]
        for n, token in enumerate(tokens):
            if token >= 0:
                past[n].append(token)
                own = memories[present[n // beam_size]]
                torch.testing.assert_close(found[n], model(own, torch.tensor([past[n]]))[0, -1])
                looked = model.attention(own, torch.tensor([past[n]]))[0, -1]
                attention: Tensor = state.attention[n // beam_size, n % beam_size]
                torch.testing.assert_close(attention[: looked.numel()], looked)
        staying = [b for b in range(len(present)) if chance.random() < 0.9] or [0]
        parents = [b * beam_size + chance.randrange(beam_size) for b in staying for _ in range(beam_size)]
        utterances = torch.tensor(staying) if len(staying) < len(present) else None
        state = model.select(state, torch.tensor(parents), utterances)
        present, past = [present[b] for b in staying], [list(past[p]) for p in parents]


@given(lengths=st.lists(st.integers(1, 6), min_size=1, max_size=3), rows=st.integers(1, 3), seed=st.integers(0, 99))
@settings(max_examples=10)
def test_the_weights_of_some_heads_are_those_of_the_layers(lengths: list[int], rows: int, seed: int) -> None:
    model, memory = other(OPTIONS[seed % len(OPTIONS)], seed), toy_memory(lengths, seed)
    tokens = torch.randint(7, (len(lengths) * rows, 4))
    every = [(layer, head) for layer in range(2) for head in range(4)]
    states, weights = model.read(memory, tokens, every)
    torch.testing.assert_close(model.logits(states).log_softmax(dim=-1), model(memory, tokens))
    assert weights.shape == (len(tokens), 8, 4, memory.states.size(1))
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(len(tokens), 8, 4).double())
    torch.testing.assert_close(weights.mean(dim=1), model.attention(memory, tokens))
    some = model.read(memory, tokens, [(1, 3), (0, 2), (1, 3)])[1]
    torch.testing.assert_close(some, weights[:, [7, 2, 7]])
    for n in range(len(tokens)):
        alone = memory.rows(n // rows, n // rows + 1)
        own = model.read(alone, tokens[n : n + 1], every)[1]
        torch.testing.assert_close(weights[n, :, :, : own.size(-1)], own[0])


def test_texts_longer_than_the_learned_positions_are_refused() -> None:
    model, memory = other({"positions": "learned", "max_positions": 4}), toy_memory([3])
    assert model.max_positions == 4
    assert decoder().max_positions is None
    message = r"5 positions is too long for this model, which learned 4"
    assert model(memory, torch.zeros(1, 4, dtype=torch.long)).shape == (1, 4, 7)
    with pytest.raises(UserError, match=message):
        model(memory, torch.zeros(1, 5, dtype=torch.long))
    with pytest.raises(UserError, match=message):
        model.prompt(torch.zeros(1, 5, dtype=torch.long), torch.tensor([5]), model.start(memory, 1))


@pytest.mark.parametrize("out_bias", [True, False])
def test_a_tied_output_is_the_embedding(out_bias: bool) -> None:
    model = other({"tie_output": True, "out_bias": out_bias})
    names = set(model.state_dict())
    assert not [name for name in names if name.startswith("out.")]
    assert ("out_bias" in names) == out_bias
    x = torch.randn(3, 16).double()
    expected = model.norm(x) @ model.embedding.weight.T + (model.out_bias if out_bias else 0.0)
    torch.testing.assert_close(model.logits(x), expected)
