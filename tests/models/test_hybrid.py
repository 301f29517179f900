from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from toy import BOS, EOS, toy_model, toy_source

from s2s.errors import UserError
from s2s.models.hybrid import HybridModel


def test_the_loss_equals_its_parts_computed_an_utterance_at_a_time() -> None:
    model = toy_model()
    source, lengths = toy_source([40, 25])
    targets = [[4, 5, 5], [5]]
    ctc, attention, counted = 0.0, 0.0, 0
    for b, target in enumerate(targets):
        memory = model.encode(source[b : b + 1, : lengths[b]], lengths[b : b + 1])
        log_probs = model.ctc(memory)[0]
        ctc += F.ctc_loss(log_probs, torch.tensor(target), memory.lengths, torch.tensor([len(target)]), reduction="sum")
        scores = model.decoder(memory, torch.tensor([[BOS, *target]]))[0]
        labels = torch.tensor([*target, EOS])
        attention += F.cross_entropy(scores, labels, label_smoothing=model.label_smoothing, reduction="sum")
        counted += len(labels)
    padded = torch.tensor([[4, 5, 5], [5, 0, 0]])
    loss = model.loss(model.encode(source, lengths), padded, torch.tensor([3, 1]))
    torch.testing.assert_close(loss.ctc.double(), ctc / 4, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(loss.attention.double(), attention / counted, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(loss.total, 0.3 * loss.ctc + 0.7 * loss.attention)


@pytest.mark.parametrize("padding", [0.0, 9.0, float("nan")])
@pytest.mark.parametrize("target_padding", [0, 3, 5])
def test_padding_changes_neither_loss_nor_gradients(padding: float, target_padding: int) -> None:
    def loss_and_gradient(source: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        model = toy_model()
        loss = model(source, torch.tensor([40, 25]), target, torch.tensor([2, 1])).total
        loss.backward()
        return loss.detach(), torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    expected, gradient = loss_and_gradient(toy_source([40, 25])[0], torch.tensor([[4, 5], [5, 0]]))
    target = torch.tensor([[4, 5, target_padding], [5, target_padding, target_padding]])
    found, found_gradient = loss_and_gradient(toy_source([40, 25], padding=padding, more=11)[0], target)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found_gradient, gradient, rtol=1e-4, atol=1e-5)


def test_augmentation_sees_normalised_features_and_their_lengths() -> None:
    model = toy_model()
    model.normalise.mean.fill_(2.0)  # type: ignore[union-attr, operator]
    source, lengths = toy_source([30, 20])
    seen: list[torch.Tensor] = []

    def augment(features: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
        assert given.tolist() == [30, 20]
        seen.append(features)
        return torch.zeros_like(features)

    target = torch.tensor([[4], [5]]), torch.tensor([1, 1])
    masked = model(source, lengths, *target, augment)
    torch.testing.assert_close(seen[0][0], source[0] - 2.0)
    assert not torch.isclose(masked.total, model(source, lengths, *target).total)


@pytest.mark.parametrize(("key", "value"), [("ctc_weight", 1.5), ("label_smoothing", -0.1)])
def test_weights_out_of_range_are_refused(key: str, value: float) -> None:
    model = toy_model()
    with pytest.raises(UserError, match=f"{key}={value}"):
        HybridModel(6, model.normalise, model.encoder, model.decoder, **{key: value})  # type: ignore[arg-type]
