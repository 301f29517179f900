"""What a label sees of an utterance, and what comes of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_segmental import SEGMENTS, plain_utterance, seen, toy_decoder, toy_frames
from torch import Tensor
from toy import BOS

from s2s.errors import UserError
from s2s.models.attentions import attentions, cache_bytes
from s2s.models.segmental_decoder import SegmentalDecoder
from s2s.nn.segments import Segments

KINDS = pytest.mark.parametrize("segments", SEGMENTS, ids=str)
TOKENS = torch.tensor([[BOS, 4, 5, 4], [BOS, 5, 5, 4]])
ENDS = torch.tensor([[2, 3, 7], [1, 5, 6]])


@KINDS
@given(num_frames=st.integers(1, 9), data=st.data())
@settings(max_examples=15)
def test_a_label_is_shown_the_frames_that_its_segment_says(
    segments: Segments, num_frames: int, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, num_frames - 1))
    end = data.draw(st.integers(start + 1, num_frames))
    shown = segments.shown(torch.tensor([start]), torch.tensor([end]), torch.arange(num_frames))
    frames = shown[0].nonzero().flatten().tolist()
    assert frames == seen(segments, start, end, num_frames)
    if segments.before is not None:
        assert segments.after is not None
        assert all(end - 1 - segments.before <= t < end + segments.after for t in frames)
        longer = max(start, end - segments.num_lengths)
        assert frames == seen(segments, longer, end, num_frames)


@KINDS
def test_labels_and_ends_are_those_of_the_decoder_written_out(segments: Segments) -> None:
    decoder, memory = toy_decoder(segments), toy_frames([8, 6])
    with torch.no_grad():
        log_probs, odds = decoder(memory, TOKENS, ENDS)
        for b, num_frames in enumerate([8, 6]):
            plain, labels, ends = plain_utterance(decoder, memory, b), tuple(TOKENS[b, 1:].tolist()), ENDS[b].tolist()
            for u, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
                expected = plain.label(labels[:u], seen(segments, start, end, num_frames))
                torch.testing.assert_close(log_probs[b, u], expected)
                for t in range(start, end):
                    assert odds[b, t].sigmoid().log().item() == pytest.approx(plain.log_ends(labels[:u], t)[0])


def test_one_segment_is_global_attention() -> None:
    memory, tokens = toy_frames([9, 5]), torch.tensor([[BOS, 4], [BOS, 5]])
    ends = memory.lengths.unsqueeze(1)
    whole = toy_decoder(Segments("global"))(memory, tokens, ends)
    for segments in (Segments(max_frames=9), Segments("window", left=8)):
        for found, expected in zip(toy_decoder(segments)(memory, tokens, ends), whole, strict=True):
            torch.testing.assert_close(found, expected)
    shorter = toy_decoder(Segments(max_frames=8))(memory, tokens, ends)[0]
    assert not torch.allclose(shorter[0], whole[0][0])
    torch.testing.assert_close(shorter[1], whole[0][1])


@KINDS
def test_what_a_label_looked_at_is_in_its_segment_and_sums_to_one(segments: Segments) -> None:
    decoder, memory = toy_decoder(segments), toy_frames([8, 6])
    weights = decoder.attention(memory, TOKENS, ENDS)
    assert weights.shape == (2, 3, 8)
    torch.testing.assert_close(weights.sum(dim=2), torch.ones(2, 3, dtype=torch.float64))
    for b, num_frames in enumerate([8, 6]):
        for u, (start, end) in enumerate(zip([0, *ENDS[b].tolist()], ENDS[b].tolist(), strict=False)):
            assert weights[b, u].nonzero().flatten().tolist() == seen(segments, start, end, num_frames)


def test_several_hypotheses_of_an_utterance_read_its_memory_once() -> None:
    decoder, memory = toy_decoder(Segments(max_frames=3)), toy_frames([8, 6])
    tokens, ends = torch.cat((TOKENS, TOKENS.flip(0))), torch.cat((ENDS, ENDS.flip(0)))
    order = [0, 2, 1, 3]  # rows of an utterance adjacent
    log_probs, odds = decoder(memory, tokens[order], ends[order].clamp(max=6))
    for row, (b, own) in enumerate(zip([0, 0, 1, 1], order, strict=True)):
        alone = decoder(memory.rows(b, b + 1), tokens[own, None], ends[own, None].clamp(max=6))
        torch.testing.assert_close(log_probs[row], alone[0][0])
        torch.testing.assert_close(odds[row, : int(memory.lengths[b])], alone[1][0])


def test_labels_one_by_one_are_read_as_all_at_once() -> None:
    decoder = toy_decoder()
    together, kept = decoder.read(TOKENS, decoder.no_labels(2))
    past = decoder.no_labels(2)
    for u in range(TOKENS.size(1)):
        state, past = decoder.read(TOKENS[:, u, None], past)
        torch.testing.assert_close(state[:, 0], together[:, u])
        torch.testing.assert_close(past.hidden[:, -1], state[:, 0])
    torch.testing.assert_close(past, kept)


@KINDS
def test_gradients_are_those_of_the_function(segments: Segments) -> None:
    decoder, memory = toy_decoder(segments), toy_frames([5])
    tokens, ends = torch.tensor([[BOS, 4, 5]]), torch.tensor([[2, 4]])
    bias = decoder.layers[0].memory_attention.heads.query.bias

    def outputs(states: Tensor, *_: Tensor) -> tuple[Tensor, Tensor]:
        log_probs, odds = decoder(replace(memory, states=states), tokens, ends)
        return log_probs[..., 4:], odds

    given = (memory.states.requires_grad_(), decoder.length.labels.weight, bias)
    assert torch.autograd.gradcheck(outputs, given)


def test_its_attention_is_found_by_name_and_counted() -> None:
    decoder = toy_decoder()
    assert list(attentions(decoder)) == [f"layers.{i}.memory_attention" for i in range(2)]
    assert cache_bytes(decoder).frame == 2 * 2 * 8 * 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_layers": 0}, r"num_layers=0: expected at least 1"),
        ({"label_layers": 0}, r"label_layers=0: expected at least 1"),
    ],
)
def test_sizes_out_of_range_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        SegmentalDecoder(6, 8, 8, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "segmnt"}, r"kind=segmnt: expected one of segment, window, global\. Did you mean 'segment'"),
        ({"max_frames": 0}, r"max_frames=0: expected at least 1 frame"),
        ({"left": -1}, r"left=-1: expected 0 or more frames"),
        ({"kind": "global", "right": 2}, r"right=2: has no effect with kind=global"),
        ({"kind": "window", "max_frames": 5}, r"max_frames=5: has no effect with kind=window"),
    ],
)
def test_segments_out_of_range_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Segments(**options)  # type: ignore[arg-type]
