from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from s2s.errors import UserError
from s2s.models.encoder_decoder import EncoderDecoder, symmetric_divergence
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


def test_two_answers_of_one_sentence_should_agree() -> None:
    """R-drop (Liang et al. 2021): the mean cross-entropy, and α/4 of both divergences."""
    translator = model(consistency=5.0, label_smoothing=0.1)
    translator.train()
    batch = torch.tensor([[1, 2, 3, 4], [5, 6, 8, 8]]), torch.tensor([4, 2])
    target, lengths = torch.tensor([[4, 5, 0], [6, 4, 4]]), torch.tensor([2, 3])
    torch.manual_seed(1)
    found = translator(*batch, target, lengths)
    translator.consistency = 0.0
    torch.manual_seed(1)
    plain = translator(*(torch.cat((x, x)) for x in (*batch, target, lengths)))
    assert found > plain

    a, b = torch.randn(2, 2, 3, 7, dtype=torch.float64).log_softmax(dim=-1)
    counted = torch.tensor([[True, True, False], [True, True, True]])
    both = sum(
        F.kl_div(x, y, log_target=True, reduction="none").sum(dim=-1)[counted].mean() for x, y in ((a, b), (b, a))
    )
    torch.testing.assert_close(symmetric_divergence(a, b, counted).double(), both / 2, rtol=1e-5, atol=1e-6)

    for module in translator.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        elif isinstance(getattr(module, "dropout", None), float):
            module.dropout = 0.0
    losses = []
    for consistency in (0.0, 5.0):  # nothing is dropped: both answers are one
        translator.consistency = consistency
        losses.append(translator(*batch, target, lengths))
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-6, atol=1e-6)


def test_source_and_target_share_their_embedding() -> None:
    encoder = TransformerEncoder(TokenFront(7, 16), 16, 1, 2, 24)
    shared = EncoderDecoder(7, encoder, TransformerDecoder(7, 16, 16, 1, 2, 24, tie_output=True), share_embedding=True)
    assert shared.encoder.front.embedding is shared.decoder.embedding  # type: ignore[attr-defined]
    names = [name for name, _ in shared.named_parameters() if "embedding" in name]
    assert names == ["encoder.front.embedding.weight"]
    with pytest.raises(UserError, match=r"source has \(9, 16\) embeddings, the target \(7, 16\)"):
        EncoderDecoder(7, TransformerEncoder(TokenFront(9, 16), 16, 1, 2, 24), shared.decoder, share_embedding=True)  # type: ignore[arg-type]
