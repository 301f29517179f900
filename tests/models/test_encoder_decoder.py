from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from s2s.errors import UserError
from s2s.models.encoder_decoder import EncoderDecoder
from s2s.models.transformer_decoder import TransformerDecoder
from s2s.models.transformer_encoder import TransformerEncoder
from s2s.nn.embedding import TokenFront


def model(**options: float) -> EncoderDecoder:
    torch.manual_seed(0)
    encoder = TransformerEncoder(TokenFront(9, 16), 16, 1, 2, 24)
    return EncoderDecoder(7, encoder, TransformerDecoder(7, 16, 16, 1, 2, 24), **options).double().eval()  # type: ignore[arg-type]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_the_mean_of_all_tokens_and_ends_an_utterance_at_a_time(smoothing: float) -> None:
    translator = model(label_smoothing=smoothing)
    sources, targets = [[1, 2, 3, 4], [5, 6]], [[4, 5], [6, 4, 4]]
    total, count = torch.zeros((), dtype=torch.float64), 0
    for source, target in zip(sources, targets, strict=True):
        memory = translator.encode(torch.tensor([source]), torch.tensor([len(source)]))
        log_probs = translator.decoder(memory, torch.tensor([[2, *target]]))[0]
        labels = torch.tensor([*target, 3])
        total += F.cross_entropy(log_probs, labels, label_smoothing=smoothing, reduction="sum")
        count += len(labels)
    batch = torch.tensor([[1, 2, 3, 4], [5, 6, 8, 8]]), torch.tensor([4, 2])
    found: Tensor = translator(*batch, torch.tensor([[4, 5, 0], [6, 4, 4]]), torch.tensor([2, 3]))
    torch.testing.assert_close(found.double(), total / count, rtol=1e-5, atol=1e-5)
    found.backward()
    assert all(parameter.grad is not None for parameter in translator.parameters())


@pytest.mark.parametrize("value", [-0.1, 1.0])
def test_a_label_smoothing_out_of_range_is_refused(value: float) -> None:
    with pytest.raises(UserError, match=f"label_smoothing={value}: expected a number from 0 to below 1"):
        model(label_smoothing=value)
