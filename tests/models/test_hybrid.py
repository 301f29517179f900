from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from toy import BOS, EOS, toy_model, toy_source

from s2s.errors import UserError
from s2s.models.build import build
from s2s.models.hybrid import HybridModel
from s2s.models.transformer_decoder import TransformerDecoder
from s2s.tokenizers.load import train_tokenizer
from s2s.training.config import load_train_config


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


def with_reverse_decoder(reverse_weight: float) -> HybridModel:
    """The toy model with a second decoder of other weights."""
    plain = toy_model()
    torch.manual_seed(1)
    model = HybridModel(
        6,
        plain.normalise,
        plain.encoder,  # type: ignore[arg-type]
        plain.decoder,  # type: ignore[arg-type]
        reverse_decoder=TransformerDecoder(6, 16, 16, 1, 2, 32),
        reverse_weight=reverse_weight,
    )
    model.ctc.load_state_dict(plain.ctc.state_dict())
    return model.double().eval()


@pytest.mark.parametrize("padding", [0, 4])
def test_a_reverse_decoder_learns_the_targets_from_right_to_left(padding: int) -> None:
    model = with_reverse_decoder(0.3)
    memory = model.encode(*toy_source([40, 25, 30]))
    targets = [[4, 5, 1], [5], []]
    forwards, backwards = 0.0, 0.0
    for b, target in enumerate(targets):
        alone = memory.rows(b, b + 1)
        for decoder, text in ((model.decoder, target), (model.reverse_decoder, target[::-1])):
            scores = decoder(alone, torch.tensor([[BOS, *text]]))[0]  # type: ignore[misc]
            loss = F.cross_entropy(scores, torch.tensor([*text, EOS]), label_smoothing=0.1, reduction="sum")
            forwards += loss * (decoder is model.decoder)
            backwards += loss * (decoder is model.reverse_decoder)
    padded = torch.tensor([[4, 5, 1], [5, padding, padding], [padding] * 3])
    loss = model.loss(memory, padded, torch.tensor([3, 1, 0]))
    torch.testing.assert_close(loss.attention.double(), (0.7 * forwards + 0.3 * backwards) / 7, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(loss.total, 0.3 * loss.ctc + 0.7 * loss.attention)


def test_without_a_reverse_decoder_or_its_weight_nothing_changes() -> None:
    plain, unused = toy_model(), with_reverse_decoder(0.0)
    assert not [name for name in plain.state_dict() if "reverse" in name]
    source, lengths = toy_source([40, 25])
    target = torch.tensor([[4, 5], [5, 0]]), torch.tensor([2, 1])
    expected = plain.loss(plain.encode(source, lengths), *target)
    found = unused.loss(unused.encode(source, lengths), *target)
    assert found == expected


@pytest.mark.parametrize(
    ("weight", "message"),
    [(1.5, r"reverse_weight=1\.5: expected a number from 0 to 1"), (0.3, r"reverse_weight=0\.3: there is no reverse")],
)
def test_a_reverse_weight_needs_to_be_a_share_and_a_decoder(weight: float, message: str) -> None:
    model = toy_model()
    with pytest.raises(UserError, match=message):
        HybridModel(6, model.normalise, model.encoder, model.decoder, reverse_weight=weight)  # type: ignore[arg-type]


def test_the_shipped_config_has_both_decoders_and_one_may_be_taken_away(tmp_path: Path) -> None:
    train_tokenizer("char", ["one two"]).save(tmp_path)
    small = ["model.encoder.model_dim=32", "model.encoder.num_layers=1", "model.decoder.num_layers=1"]
    options = [f"tokenizer={tmp_path}", "model=conformer_bidirectional", *small]
    config = load_train_config("train", options).model
    model = build(config)
    assert isinstance(model, HybridModel)
    assert len(model.reverse_decoder.layers) == 3  # type: ignore[union-attr]
    assert model.reverse_decoder.memory_projection.in_features == 32  # type: ignore[union-attr]
    assert model.reverse_weight == 0.3
    without = build({**config, "reverse_decoder": None, "reverse_weight": 0})
    assert without.reverse_decoder is None
    plain = build(load_train_config("train", [f"tokenizer={tmp_path}", "model=conformer", *small]).model)
    assert list(without.state_dict()) == list(plain.state_dict())
