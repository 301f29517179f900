"""Memories that grow are the memories of the whole."""

from __future__ import annotations

from dataclasses import replace

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pieces import any_like, cut, in_pieces
from toy import toy_memory

from s2s.decoding.streaming.heard import first_frames, heard_more, nothing_heard
from s2s.models.memory import Memory


def equal(a: Memory, b: Memory) -> None:
    assert torch.equal(a.states, b.states)
    assert torch.equal(a.lengths, b.lengths)
    assert torch.equal(a.frame_counts, b.frame_counts)
    assert list(a.layers) == list(b.layers)
    for number, layer in a.layers.items():
        equal(layer, b.layers[number])


@given(lengths=st.lists(st.integers(1, 20), min_size=1, max_size=4), seed=st.integers(0, 999))
@settings(max_examples=10)
def test_pieces_of_any_sizes_make_the_whole(lengths: list[int], seed: int) -> None:
    memory = toy_memory(lengths, seed)
    heard = nothing_heard(len(lengths), any_like(memory))
    for piece, so_far in in_pieces(memory, seed):
        heard = heard_more(heard, piece)
        for b, own in enumerate(heard):
            if so_far[b]:
                equal(own, first_frames(memory.rows(b, b + 1), so_far[b]))
    for b, own in enumerate(heard):
        equal(own, memory.rows(b, b + 1))
        assert own.states.untyped_storage().nbytes() == own.states.nbytes  # no other's frames are kept with it


def test_frames_that_stand_for_several_still_do() -> None:
    memory = replace(toy_memory([6]), counts=torch.tensor([[1, 3, 1, 2, 2, 1]]), layers={})
    heard = nothing_heard(1, memory)
    for start, stop in ((0, 2), (2, 3), (3, 6)):
        piece = replace(cut(memory, [start], [stop]), counts=memory.counts[:, start:stop])  # type: ignore[index]
        heard = heard_more(heard, piece)
    equal(heard[0], memory)
    equal(first_frames(heard[0], 4), replace(first_frames(memory, 4), counts=torch.tensor([[1, 3, 1, 2]])))
