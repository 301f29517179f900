from __future__ import annotations

import torch
from toy import toy_memory

from s2s.models.memory import Memory
from s2s.models.transformer_decoder import TransformerDecoder


def decoder() -> TransformerDecoder:
    torch.manual_seed(0)
    return TransformerDecoder(7, 16, 16, 2, 2, 32).double().eval()


def test_rows_are_utterances_without_what_is_padding_for_all_of_them() -> None:
    memory = toy_memory([5, 2, 3, 1])
    part = memory.rows(1, 3)
    assert part.lengths.tolist() == [2, 3]
    assert torch.equal(part.states, memory.states[1:3, :3])
    assert part.keys_values is None
    assert memory.rows(2, 2).states.shape == (0, 0, 16)
    assert memory.rows(3, 9).lengths.tolist() == [1]


def test_rows_have_their_keys_and_values_too() -> None:
    model, memory = decoder(), toy_memory([5, 2, 3])
    part = model.prepared(memory).rows(1, 3)
    expected = model.prepared(memory.rows(1, 3)).keys_values
    assert part.keys_values is not None
    assert expected is not None
    assert len(part.keys_values) == 2
    torch.testing.assert_close(part.keys_values, expected)


def test_joined_are_the_utterances_of_all_in_order() -> None:
    memories = [toy_memory([5, 2]), toy_memory([7], 1), toy_memory([1, 3], 2)]
    joined = Memory.joined(memories)
    assert joined.lengths.tolist() == [5, 2, 7, 1, 3]
    assert joined.states.shape == (5, 7, 16)
    number = 0
    for memory in memories:
        for states, length in zip(memory.states, memory.lengths.tolist(), strict=True):
            assert torch.equal(joined.states[number, :length], states[:length])
            number += 1


def test_prepared_once_a_memory_gives_the_same_numbers_for_every_use() -> None:
    model, memory = decoder(), toy_memory([5, 2])
    prepared = model.prepared(memory)
    tokens = torch.randint(7, (4, 3))
    torch.testing.assert_close(model(prepared, tokens), model(memory, tokens))
    torch.testing.assert_close(model.attention(prepared, tokens), model.attention(memory, tokens))
    found, _ = model.step(tokens[:, 0], model.start(prepared, 2))
    torch.testing.assert_close(found, model(memory, tokens)[:, 0])
    hidden = Memory(torch.full_like(memory.states, float("nan")), memory.lengths, prepared.keys_values)
    torch.testing.assert_close(model(hidden, tokens), model(memory, tokens))  # the states are not asked again
