"""The memories of all that was heard so far, for searches that look back."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from s2s.models.memory import Memory


def nothing_heard(size: int, like: Memory) -> list[Memory]:
    """The memory of each of B=`size` utterances before its first frame."""
    states = like.states.new_zeros(1, 0, like.states.size(-1))
    return [Memory(states, like.lengths.new_zeros(1, dtype=torch.long))] * size


def heard_more(memories: Sequence[Memory], more: Memory) -> list[Memory]:
    """The memory of each of B utterances, and behind it its new frames, states (B,T,D), lengths (B,).

    Each is a copy, so that no utterance keeps the frames of others.
    """
    return [_joined(memory, more.rows(b, b + 1)) for b, memory in enumerate(memories)]


def first_frames(memory: Memory, size: int) -> Memory:
    """The first `size` frames of a memory."""
    return Memory(
        memory.states[:, :size],
        memory.lengths.clamp(max=size),
        counts=None if memory.counts is None else memory.counts[:, :size],
        layers={number: first_frames(layer, size) for number, layer in memory.layers.items()},
    )


def _joined(memory: Memory, more: Memory) -> Memory:
    """One utterance of two memories, as long as both."""
    counts = None
    if memory.counts is not None or more.counts is not None:
        counts = torch.cat((memory.frame_counts, more.frame_counts), dim=1)
    return Memory(
        torch.cat((memory.states, more.states), dim=1),
        memory.lengths + more.lengths,
        counts=counts,
        layers={
            i: _joined(memory.layers.get(i) or nothing_heard(1, layer)[0], layer) for i, layer in more.layers.items()
        },
    )
