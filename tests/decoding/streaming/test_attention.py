from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from toy import toy_memory, toy_model
from toy_whisper import SOT, toy_features, toy_whisper

from s2s.decoding.streaming.attention import AlignmentHeads, HeadMean
from s2s.errors import UserError
from s2s.models.lstm_decoder import LSTMDecoder

TOKENS, LENGTHS, HEARD = torch.tensor([[2, 4, 5, 6], [2, 4, 0, 0]]), torch.tensor([4, 2]), torch.tensor([5, 3])


@pytest.mark.parametrize("heads", [None, [[1, 0]], [[0, 1], [1, 1]]])
@torch.no_grad()
def test_weights_are_those_of_the_heads_over_what_was_heard(heads: list[list[int]] | None) -> None:
    decoder, memory = toy_model(8).decoder, toy_memory([7, 4])
    found = HeadMean(decoder, heads)(memory, TOKENS, LENGTHS, HEARD)
    for b, (length, heard) in enumerate(zip(LENGTHS.tolist(), HEARD.tolist(), strict=True)):
        pairs = [(layer, head) for layer in range(2) for head in range(2)] if heads is None else heads
        _, weights = decoder.read(memory.rows(b, b + 1), TOKENS[b : b + 1, :length], pairs)  # type: ignore[attr-defined]
        expected = weights[0].mean(dim=0)[:, :heard]
        torch.testing.assert_close(found[b, :length, :heard], expected / expected.sum(dim=1, keepdim=True))
        assert found[b, :, heard:].abs().max() == 0.0


@torch.no_grad()
def test_alignment_heads_are_standardised_over_the_tokens_and_filtered() -> None:
    model = toy_whisper(12)
    memory = model.encode(*toy_features([20, 14]))
    tokens, heard = torch.tensor([[SOT, 1, 2, 3], [SOT, 2, 0, 0]]), [9, 6]
    found = AlignmentHeads(model)(memory, tokens, LENGTHS, torch.tensor(heard))
    for b, length in enumerate(LENGTHS.tolist()):
        _, weights = model.decoder.read(memory.rows(b, b + 1), tokens[b : b + 1, :length], model.alignment_heads)
        weights = weights[0, :, :, : heard[b]]  # (A,U,T)
        weights = weights / weights.sum(dim=-1, keepdim=True)
        standard = (weights - weights.mean(dim=1, keepdim=True)) / weights.std(dim=1, keepdim=True, correction=0)
        for u in range(length):
            for t in range(heard[b]):
                around = [abs(t + i) for i in range(-3, 4)]
                around = [i if i < heard[b] else 2 * (heard[b] - 1) - i for i in around]  # reflected
                expected = standard[:, u, around].median(dim=-1).values.mean().item()
                assert found[b, u, t].item() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("heads", [[[2, 0]], [[0, 2]], [[-1, 0]], [[0]], []])
def test_heads_that_the_decoder_has_not_are_refused(heads: Sequence[Sequence[int]]) -> None:
    with pytest.raises(
        UserError, match=r"policy.heads: .*expected layers 0 to 1, heads 0 to 1|no heads; name at least"
    ):
        HeadMean(toy_model(8).decoder, heads)


def test_a_decoder_that_knows_the_mean_only_is_asked_for_that() -> None:
    decoder = LSTMDecoder(8, 16, 16).double().eval()
    assert HeadMean(decoder)(toy_memory([7, 4]), TOKENS, LENGTHS, HEARD).shape == (2, 4, 7)
    with pytest.raises(UserError, match=r"policy.heads: LSTMDecoder knows only the mean of all heads; leave it out"):
        HeadMean(decoder, [[0, 0]])
