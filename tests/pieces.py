"""Memories in pieces, and what every streaming search promises of them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch

from s2s.decoding.hypothesis import Hypothesis
from s2s.decoding.streaming.partial import Partial, StreamingSearch
from s2s.models.memory import Memory


def same(found: list[Hypothesis], expected: list[Hypothesis], frames: bool = True) -> None:
    """The same hypotheses, in the same order."""
    assert [h.tokens for h in found] == [h.tokens for h in expected]
    for a, b in zip(found, expected, strict=True):
        assert a.score == pytest.approx(b.score, abs=1e-9)
        assert a.scores == pytest.approx(b.scores, abs=1e-9)
        assert a.frames == b.frames or not frames


def cut(memory: Memory, starts: list[int], stops: list[int]) -> Memory:
    """Of each utterance the frames from its start to before its stop; padding is not a number."""
    lengths = [stop - start for start, stop in zip(starts, stops, strict=True)]
    states = memory.states.new_full((len(lengths), max(lengths), memory.states.size(2)), float("nan"))
    for b, (start, stop) in enumerate(zip(starts, stops, strict=True)):
        states[b, : stop - start] = memory.states[b, start:stop]
    layers = {i: cut(layer, starts, stops) for i, layer in memory.layers.items()}
    return Memory(states, torch.tensor(lengths), layers=layers)


def in_pieces(memory: Memory, seed: int, largest: int = 5) -> Iterator[tuple[Memory, list[int]]]:
    """Random pieces, of none to `largest` frames of each utterance; how many frames of each there were with them."""
    numbers = random.Random(seed)
    lengths, starts = memory.lengths.tolist(), [0] * len(memory.lengths)
    while starts != lengths:
        stops = [min(n, start + numbers.randint(0, largest)) for n, start in zip(lengths, starts, strict=True)]
        yield cut(memory, starts, stops), stops
        starts = stops


def any_like(memory: Memory) -> Memory:
    """One of its device and dtype, but nothing else that it has."""
    return Memory(torch.full_like(memory.states[:1, :1], float("nan")), torch.zeros(1))


def fed(search: StreamingSearch[Any], memory: Memory, seed: int, largest: int = 5) -> list[list[Hypothesis]]:
    """What a search finds of a memory in pieces; that what it calls stable stays is looked at on the way."""
    state = search.start(len(memory.lengths), any_like(memory))
    partials = [search.partials(state)]
    for piece, heard in in_pieces(memory, seed, largest):
        state = search.step(piece, state)
        partials.append(search.partials(state))
        assert [partial.heard for partial in partials[-1]] == heard
    found = search.finish(state)
    for own, hypotheses in zip(zip(*partials, strict=True), found, strict=True):
        check_stable(own, hypotheses)
    return found


def check_stable(partials: tuple[Partial, ...], found: list[Hypothesis]) -> None:
    """What was stable in a partial is in all later ones, and in all hypotheses at the end, and never gets less."""
    texts = [partial.hypothesis.tokens for partial in partials]
    stable = [partial.hypothesis.tokens[: partial.num_stable] for partial in partials]
    assert [partial.num_stable for partial in partials] == [len(tokens) for tokens in stable]
    assert all(a == b[: len(a)] for a, b in pairwise(stable))
    for i, tokens in enumerate(stable):
        assert all(later[: len(tokens)] == tokens for later in [*texts[i:], *(h.tokens for h in found)])


def sessions(search: StreamingSearch[Any], memory: Memory, seed: int) -> list[list[Hypothesis]]:
    """What a search finds of utterances that begin one after the other, and are searched together when they happen to
    be ready at once: in any company, in any order."""
    numbers = random.Random(seed)
    lengths, starts = memory.lengths.tolist(), [0] * len(memory.lengths)
    states = [search.start(1, any_like(memory)) for _ in lengths]
    while starts != lengths:
        ready = [b for b, start in enumerate(starts) if start < lengths[b] and numbers.random() < 0.6]
        if not ready:
            continue
        numbers.shuffle(ready)
        before = [starts[b] for b in ready]
        for b in ready:
            starts[b] = min(lengths[b], starts[b] + numbers.randint(0, 5))
        rows = Memory(memory.states[ready], memory.lengths[ready], layers=_rows(memory, ready))
        piece = cut(rows, before, [starts[b] for b in ready])
        together = search.step(piece, search.join([states[b] for b in ready]))
        for row, b in enumerate(ready):
            states[b] = search.rows(together, [row])
    order = list(range(len(lengths)))
    numbers.shuffle(order)
    search.finish(search.join([states[b] for b in order]))  # what is joined or taken out is nobody else's
    joined = search.join([states[b] for b in order])
    search.finish(search.rows(joined, [0]))
    return search.finish(search.rows(joined, [order.index(b) for b in range(len(order))]))


def _rows(memory: Memory, utterances: list[int]) -> dict[int, Memory]:
    return {
        i: replace(layer, states=layer.states[utterances], lengths=layer.lengths[utterances])
        for i, layer in memory.layers.items()
    }
