"""Chunk by chunk, an encoder gives what it gives of the whole under the same mask."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from toy import toy_source

from s2s.errors import UserError
from s2s.models.build import build
from s2s.models.memory import Memory
from s2s.models.streaming_encoder import DynamicChunks, StreamingEncoder
from s2s.nn.attention.reach import Chunked
from s2s.nn.frames import PastFrames

CLOSE = {"atol": 1e-10, "rtol": 1e-9}
ENCODERS = {
    "transformer": {"_target_": "s2s.models.transformer_encoder.TransformerEncoder"},
    "conformer": {"_target_": "s2s.models.conformer.ConformerEncoder", "kernel_size": 5},
    "branchformer": {"_target_": "s2s.models.branchformer.BranchformerEncoder", "kernel_size": 5, "gating_dim": 20},
}
SUBSAMPLING = {
    "4": {"factor": 4},
    "8 separable": {"factor": 8, "separable": True},  # Fast Conformer's
    "1": {"factor": 1},
}
POSITIONS = ("relative", "rotary", "alibi", "sinusoidal", "none")
CHUNKS = (Chunked(1, 0), Chunked(1, 3), Chunked(2, 1), Chunked(3, 2), Chunked(4, 0), Chunked(7, 1))


def encoder(
    name: str, convolution: str = "causal", positions: str = "relative", front: str = "4", **options: Any
) -> StreamingEncoder:
    torch.manual_seed(0)
    config = {
        **ENCODERS[name],
        "front": {
            "_target_": "s2s.nn.subsampling.ConvolutionSubsampling",
            "input_dim": 8,
            "model_dim": 16,
            "channels": 4,
            "dropout": 0.0,
            **SUBSAMPLING[front],
        },
        "model_dim": 16,
        "num_layers": 2,
        "num_heads": 2,
        "feed_forward_dim": 20,
        "positions": positions,
        **({} if name == "transformer" else {"convolution": convolution}),
        **options,
    }
    model = build(config).double().eval()
    for parameter in model.parameters():
        if parameter.dim() == 1 or parameter.size(-1) == parameter.size(0) == 1:
            torch.nn.init.normal_(parameter, std=0.3)
    assert isinstance(model, StreamingEncoder)
    return model


def windows(model: StreamingEncoder, source: Tensor, chunks: Chunked) -> list[Tensor]:
    """An utterance (S,F) cut as a stream cuts it; the last window is what is left, if that makes a frame."""
    size, hop = model.window(chunks)
    pieces = [source[start : start + size] for start in range(0, len(source), hop)]
    return [piece for i, piece in enumerate(pieces) if i == 0 or len(piece) >= (model.front.view or 0)]


def streamed(model: StreamingEncoder, source: Tensor, lengths: Tensor, chunks: Chunked) -> list[Tensor]:
    """Utterances that all begin at once, each in a batch with those that go on as long."""
    cut = [windows(model, row[:length], chunks) for row, length in zip(source, lengths.tolist(), strict=True)]
    past, alive = model.start(len(cut), chunks), list(range(len(cut)))
    found: list[list[Tensor]] = [[] for _ in cut]
    for step in range(max(map(len, cut))):
        still = [b for b in alive if step < len(cut[b])]
        past = past.rows([alive.index(b) for b in still])
        alive = still
        sizes = torch.tensor([len(cut[b][step]) for b in alive])
        batch = torch.nn.utils.rnn.pad_sequence([cut[b][step] for b in alive], batch_first=True, padding_value=3.0)
        memory, past = model.step(batch, sizes, past)
        for b, states, length in zip(alive, memory.states, memory.lengths.tolist(), strict=True):
            found[b].append(states[:length])
    return [torch.cat(pieces) for pieces in found]


def check(model: StreamingEncoder, lengths: list[int], chunks: Chunked) -> None:
    source, sizes = toy_source(lengths)
    expected = model(source, sizes, chunks=chunks)
    for b, states in enumerate(streamed(model, source, sizes, chunks)):
        assert len(states) == int(expected.lengths[b])
        torch.testing.assert_close(states, expected.states[b, : len(states)], **CLOSE)


@pytest.mark.parametrize("chunks", CHUNKS, ids=str)
@pytest.mark.parametrize(
    ("name", "convolution"), [("transformer", ""), *product(("conformer", "branchformer"), ("causal", "chunked"))]
)
def test_chunk_by_chunk_equals_the_whole_under_the_same_mask(name: str, convolution: str, chunks: Chunked) -> None:
    check(encoder(name, convolution), [61, 40, 7, 3, 33], chunks)


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("front", SUBSAMPLING)
def test_for_every_kind_of_positions_and_subsampling(positions: str, front: str) -> None:
    check(encoder("conformer", "chunked", positions, front), [75, 16, 50], Chunked(2, 2))


@pytest.mark.parametrize(
    "attention",
    [
        {"kind": "relaxed", "relax_always": True},
        {"kind": "entmax15"},
        {"kind": "rectified"},
        {"kv_heads": 1},
        {"projection": "keys_only"},
        {"knocking": True},
        {"active_heads": 1, "shared_heads": 1},
    ],
    ids=str,
)
def test_for_other_kinds_of_attention(attention: dict[str, Any]) -> None:
    check(encoder("transformer", positions="alibi", attention=attention), [45, 61], Chunked(3, 1))


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.integers(1, 90), min_size=1, max_size=3),
    st.integers(1, 6),
    st.integers(0, 3),
    st.sampled_from(["causal", "chunked"]),
)
def test_for_lengths_of_any_kind(lengths: list[int], size: int, left: int, convolution: str) -> None:
    check(encoder("conformer", convolution), lengths, Chunked(size, left))


def test_streams_that_began_at_different_times_are_heard_together() -> None:
    model, chunks = encoder("conformer", "chunked"), Chunked(2, 2)
    source, lengths = toy_source([75, 75])
    size, hop = model.window(chunks)
    early = model.start(1, chunks)
    for i in range(3):
        _, early = model.step(source[:1, i * hop : i * hop + size], torch.tensor([size]), early)
    past = PastFrames.joined([model.start(1, chunks), early])
    batch = torch.stack((source[1, :size], source[0, 3 * hop : 3 * hop + size]))
    memory, past = model.step(batch, torch.tensor([size, size]), past)
    expected = model(source, lengths, chunks=chunks).states
    torch.testing.assert_close(memory.states[0], expected[1, :2], **CLOSE)
    torch.testing.assert_close(memory.states[1], expected[0, 6:8], **CLOSE)
    assert past.frames.tolist() == [2, 8]


def test_no_frame_before_its_chunk_ends_depends_on_what_comes_after() -> None:
    model, chunks = encoder("conformer", "chunked"), Chunked(4, 1)
    source, lengths = toy_source([79])
    changed = source.clone()
    size, _ = model.window(chunks)
    changed[:, size:] += 1.0
    before, after = (model(x, lengths, chunks=chunks).states[0] for x in (source, changed))
    torch.testing.assert_close(before[:4], after[:4], **CLOSE)
    assert float((before[4:8] - after[4:8]).detach().abs().max()) > 1e-3


def test_what_is_kept_does_not_grow() -> None:
    model, chunks = encoder("conformer", "chunked"), Chunked(2, 3)
    source, _ = toy_source([79])
    size, hop = model.window(chunks)
    past = model.start(1, chunks)
    sizes = set()
    for i in range(8):
        memory, past = model.step(source[:, i * hop : i * hop + size], torch.tensor([size]), past)
        sizes.add(sum(tensor.untyped_storage().size() for layer in past.kept for tensor in layer) // 8)
        assert memory.states.shape == (1, 2, 16)
    assert max(sizes) <= 2 * (2 * (3 * 2 + 2) * 16 + 4 * 16)  # keys and values with the chunk; the convolution's past


def test_training_draws_chunks_and_evaluation_sees_all() -> None:
    model = encoder("conformer", dynamic_chunks={"max_chunk_size": 3, "full_share": 0.3}, dropout=0.0)
    source, lengths = toy_source([79])
    whole = model(source, lengths).states
    model.train()
    with torch.no_grad():
        found = [model(source, lengths).states for _ in range(20)]
    same = [torch.allclose(states, whole) for states in found]
    assert any(same)
    assert not all(same)


def test_draws_are_what_the_config_says() -> None:
    torch.manual_seed(0)
    drawn = [DynamicChunks(max_chunk_size=4).draw(12) for _ in range(2000)]
    assert 850 < drawn.count(None) < 1150
    some = [chunks for chunks in drawn if chunks is not None]
    assert {chunks.size for chunks in some} == {1, 2, 3, 4}
    assert 400 < sum(chunks.left is None for chunks in some) < 600
    assert all(chunks.left is None or chunks.left * chunks.size < 12 for chunks in some)
    several = DynamicChunks(chunk_sizes=[2, 8], left_frames=20, full_share=0.0)
    assert {several.draw(50) for _ in range(50)} == {Chunked(2, 10), Chunked(8, 3)}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"max_chunk_size": 0}, r"max_chunk_size=0"),
        ({"chunk_sizes": [0]}, r"chunk_sizes=\[0\]"),
        ({"left_frames": -1}, r"left_frames=-1"),
        ({"full_share": 2.0}, r"full_share=2.0"),
    ],
)
def test_values_out_of_range_are_refused_by_key(config: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=rf"dynamic_chunks\.{message}"):
        encoder("conformer", dynamic_chunks=config)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"convolution": "symmetric"}, r"convolution=symmetric"),
        ({"attention": {"reach": "limited"}}, r"attention\.reach=limited"),
        ({"attention": {"reach": "chunked", "above": 10}}, r"attention\.reach=chunked"),
        ({"positions": "learned", "max_positions": 100}, r"positions=learned"),
        ({"front": "whisper"}, r"front: ConvolutionFront"),
    ],
)
def test_what_looks_beyond_a_chunk_cannot_be_streamed(options: dict[str, Any], message: str) -> None:
    if options.get("front") == "whisper":
        options = {"front": {"_target_": "s2s.nn.subsampling.ConvolutionFront", "input_dim": 8, "model_dim": 16}}
        model = build({**ENCODERS["transformer"], "model_dim": 16, "num_layers": 1, "num_heads": 2, **options}).double()
    else:
        model = encoder("conformer", **options)
        with pytest.raises(UserError, match=rf"dynamic_chunks: {message}"):
            encoder("conformer", **options, dynamic_chunks={})
    assert isinstance(model, StreamingEncoder)
    with pytest.raises(UserError, match=message):
        model.start(1, Chunked(2, 1))
    with pytest.raises(UserError, match=message):
        model(*toy_source([30]), chunks=Chunked(2, 1))


def test_a_stream_needs_chunks_that_end_and_begin() -> None:
    with pytest.raises(UserError, match=r"chunk_size: .* choose a size"):
        encoder("conformer").start(1)
    with pytest.raises(UserError, match=r"left_chunks=null"):
        encoder("conformer").start(1, Chunked(2, None))


def test_chunks_of_the_config_are_those_of_the_stream() -> None:
    model = encoder("conformer", "chunked", attention={"reach": "chunked", "chunk_size": 3, "left_chunks": 2})
    assert model.start(2).chunks == Chunked(3, 2)
    source, lengths = toy_source([61, 40])
    own: Memory = model(source, lengths)
    torch.testing.assert_close(own.states, model(source, lengths, chunks=Chunked(3, 2)).states)
