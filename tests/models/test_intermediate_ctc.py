from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from toy import toy_model, toy_source

from s2s.audio.fbank import Fbank, FbankConfig
from s2s.errors import UserError
from s2s.models.build import build
from s2s.models.bundle import Bundle, load_bundle
from s2s.models.hybrid import HybridModel
from s2s.models.intermediate_ctc import IntermediateCTCConfig
from s2s.models.memory import Memory
from s2s.tokenizers.load import train_tokenizer

CONDITIONED = {"layers": [1, 3], "weight": 0.25, "self_conditioned": True}
small = {"model_dim": 16, "num_heads": 2, "feed_forward_dim": 24, "dropout": 0.0}
SUBSAMPLING = {"_target_": "s2s.nn.subsampling.ConvolutionSubsampling", "input_dim": 8, "model_dim": 16, "channels": 4}
ENCODERS: dict[str, dict[str, Any]] = {
    "transformer": {
        "_target_": "s2s.models.transformer_encoder.TransformerEncoder",
        "front": {"_target_": "s2s.nn.subsampling.ConvolutionFront", "input_dim": 8, "model_dim": 16},
        "num_layers": 4,
        **small,
    },
    "conformer": {
        "_target_": "s2s.models.conformer.ConformerEncoder",
        "front": {**SUBSAMPLING, "dropout": 0.0},
        "num_layers": 4,
        "kernel_size": 3,
        **small,
    },
    "lstm": {
        "_target_": "s2s.models.lstm_encoder.LSTMEncoder",
        "front": {**SUBSAMPLING, "factor": 1, "dropout": 0.0},
        "num_layers": 4,
        "model_dim": 16,
        "dropout": 0.0,
        "pyramid": [1, 2],
    },
}
DECODER = {
    "_target_": "s2s.models.transformer_decoder.TransformerDecoder",
    "vocab_size": 6,
    "memory_dim": 16,
    "num_layers": 1,
    **small,
}
TARGET = torch.tensor([[4, 5, 5], [5, 0, 0]]), torch.tensor([3, 1])


def config(encoder: str, intermediate: Any, vocab_size: int = 6) -> dict[str, Any]:
    return {
        "_target_": "s2s.models.hybrid.HybridModel",
        "vocab_size": vocab_size,
        "normalise": {"_target_": "s2s.audio.normalise.GlobalNormalise", "num_bins": 8},
        "encoder": ENCODERS[encoder],
        "decoder": {**DECODER, "vocab_size": vocab_size},
        "intermediate_ctc": intermediate,
    }


def hybrid(encoder: str, intermediate: Any = None) -> Any:
    torch.manual_seed(0)
    return build(config(encoder, intermediate)).double().train()


def by_hand(name: str, model: Any, source: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The last states of one utterance (1,S,8), and those that intermediate layers show to CTC, (T,D) each."""
    encoder, ctc = model.encoder, model.ctc
    layers = encoder.blocks if name == "conformer" else encoder.layers
    norm = encoder.norm if name == "transformer" else (lambda x: x)
    shown = []
    kept: list[torch.Tensor] = []
    hooks = []
    for number, layer in enumerate(layers, 1):

        def hook(_: Any, given: Any, result: Any, number: int = number) -> Any:
            x = result[0] if isinstance(result, tuple) else result
            if number not in ctc.layers:
                return result
            states = norm(x)
            kept.append(states[0])
            for t in range(states.size(1)):
                posterior = (ctc.out.weight @ states[0, t] + ctc.out.bias).softmax(dim=0)
                fed_back = ctc.condition.weight @ posterior + ctc.condition.bias
                x = torch.cat((x[:, :t], (x[0, t] + fed_back)[None, None], x[:, t + 1 :]), dim=1)
            return (x, *result[1:]) if isinstance(result, tuple) else x

        hooks.append(layer.register_forward_hook(hook))
    shown = encoder(source, torch.tensor([source.size(1)])).states
    for each in hooks:
        each.remove()
    return shown[0], kept


@pytest.mark.parametrize("name", ENCODERS)
def test_what_layers_say_is_fed_back_to_those_after_them(name: str) -> None:
    model, (source, lengths) = hybrid(name, CONDITIONED), toy_source([40])
    expected, kept = by_hand(name, model, source)
    memory = model.encode(source, lengths)
    torch.testing.assert_close(memory.states[0], expected)
    assert memory.layers.keys() == {1, 3}
    for number, states in zip((1, 3), kept, strict=True):
        torch.testing.assert_close(memory.layers[number].states[0], states)
    evaluated = model.eval().encode(source, lengths)
    assert evaluated.layers == {}
    torch.testing.assert_close(evaluated.states, memory.states)  # it is fed back after training too
    assert not torch.allclose(model.encoder(source, lengths).states, memory.states)


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("self_conditioned", [False, True])
def test_the_loss_is_the_mean_of_intermediate_layers_and_the_last_one(name: str, self_conditioned: bool) -> None:
    model = hybrid(name, {**CONDITIONED, "self_conditioned": self_conditioned})
    source, lengths = toy_source([40, 25])
    last, intermediate = 0.0, 0.0
    for b, target in enumerate([[4, 5, 5], [5]]):
        memory = model.encode(source[b : b + 1, : lengths[b]], lengths[b : b + 1])

        def loss(states: torch.Tensor, target: list[int] = target) -> torch.Tensor:
            log_probs = (states @ model.ctc.out.weight.T + model.ctc.out.bias).log_softmax(dim=-1)
            sizes = torch.tensor([len(states)]), torch.tensor([len(target)])
            return F.ctc_loss(log_probs, torch.tensor(target), *sizes, reduction="sum")

        last += loss(memory.states[0])
        intermediate += sum(loss(layer.states[0]) for layer in memory.layers.values()) / 2
    losses = model.loss(model.encode(source, lengths), *TARGET)
    close = {"rtol": 1e-5, "atol": 1e-5, "check_dtype": False}
    torch.testing.assert_close(losses.parts["ctc_last"], last / 4, **close)
    torch.testing.assert_close(losses.parts["ctc_intermediate"], intermediate / 4, **close)
    torch.testing.assert_close(losses.ctc, (0.75 * last + 0.25 * intermediate) / 4, **close)
    torch.testing.assert_close(losses.total, 0.3 * losses.ctc + 0.7 * losses.attention)


@pytest.mark.parametrize("name", ENCODERS)
def test_in_evaluation_intermediate_losses_cost_nothing(name: str) -> None:
    model = hybrid(name, {"layers": [2]}).eval()
    calls: list[Any] = []
    model.ctc.out.register_forward_hook(lambda *given: calls.append(given))
    memory = model.encode(*toy_source([40, 25]))
    assert memory.layers == {}
    assert calls == []
    losses = model.loss(memory, *TARGET)
    assert len(calls) == 1
    assert losses.parts == {}
    plain = hybrid(name).eval()
    plain.load_state_dict(model.state_dict())  # nothing new to learn without feeding back
    torch.testing.assert_close(memory.states, plain.encode(*toy_source([40, 25])).states)


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("padding", [0.0, float("nan")])
def test_padding_changes_neither_loss_nor_gradients(name: str, padding: float) -> None:
    def loss_and_gradient(source: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        model = hybrid(name, CONDITIONED)
        loss = model(source, torch.tensor([40, 25]), target, torch.tensor([2, 1])).total
        loss.backward()
        assert model.ctc.condition.weight.grad.any()
        return loss.detach(), torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    expected, gradient = loss_and_gradient(toy_source([40, 25])[0], torch.tensor([[4, 5], [5, 0]]))
    padded = toy_source([40, 25], padding=padding, more=11)[0]
    found, found_gradient = loss_and_gradient(padded, torch.tensor([[4, 5, 3], [5, 3, 3]]))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found_gradient, gradient, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ENCODERS)
def test_an_utterance_is_encoded_the_same_alone_and_in_any_batch(name: str) -> None:
    model, lengths = hybrid(name, CONDITIONED).eval(), [40, 9, 33]
    source, sizes = toy_source(lengths, padding=float("nan"), more=5)
    memory = model.encode(source, sizes)
    for b, length in enumerate(lengths):
        alone = model.encode(source[b : b + 1, :length], sizes[b : b + 1])
        torch.testing.assert_close(memory.rows(b, b + 1).states, alone.states, rtol=1e-9, atol=1e-10)


def test_parameters_are_stored_once_and_those_of_a_plain_model_are_as_they_were(tmp_path: Path) -> None:
    plain, other = hybrid("conformer"), hybrid("conformer", CONDITIONED)
    assert set(other.state_dict()) - set(plain.state_dict()) == {"ctc.condition.weight", "ctc.condition.bias"}
    assert list(hybrid("conformer", {"layers": [1]}).state_dict()) == list(plain.state_dict())
    tokenizer = train_tokenizer("char", ["one two"])
    options = config("conformer", CONDITIONED, tokenizer.vocab_size)
    model = build(options).eval()
    assert isinstance(model, HybridModel)
    features = Fbank(FbankConfig(sampling_rate=8000, num_mel_bins=8))
    Bundle(model, tokenizer, features, options).save(tmp_path / "bundle")
    loaded = load_bundle(tmp_path / "bundle").model
    source, lengths = toy_source([40, 25])
    expected = model.encode(source.float(), lengths).states
    torch.testing.assert_close(loaded.encode(source.float(), lengths).states, expected)


def test_rows_of_a_memory_have_their_intermediate_layers() -> None:
    memory = hybrid("lstm", CONDITIONED).encode(*toy_source([40, 25]))
    part = Memory.joined([memory.rows(1, 2), memory.rows(0, 1)])
    for number in (1, 3):
        one, other = part.layers[number], memory.layers[number]
        assert one.lengths.tolist() == other.lengths.flip(0).tolist()
        torch.testing.assert_close(one.states[1], other.states[0])
        torch.testing.assert_close(one.states[0, : one.lengths[0]], other.states[1, : one.lengths[0]])


@pytest.mark.parametrize(
    ("intermediate", "message"),
    [
        ({"layers": [4]}, r"intermediate_ctc\.layers=\[4\]: expected .* below the last one, of 4: from 1 to 3"),
        ({"layers": [0, 1]}, r"intermediate_ctc\.layers=\[0, 1\]: expected"),
        ({"layers": [2, 2]}, r"intermediate_ctc\.layers=\[2, 2\]: expected numbers of different layers"),
        ({"layers": []}, r"intermediate_ctc\.layers=\[\]: expected"),
        ({"layers": 2}, r"model\.intermediate_ctc\.layers: expected a list, got 2"),
        ({"layers": ["2"]}, r"model\.intermediate_ctc\.layers: expected int, got '2'"),
        ({"layers": [1], "weight": 1.5}, r"model\.intermediate_ctc\.weight=1\.5: expected a share, from 0 to 1"),
        ({"layers": [1], "weights": 0.5}, r"model\.intermediate_ctc\.weights: .* Did you mean 'weight'"),
        ({"weight": 0.5}, r"model\.intermediate_ctc: IntermediateCTCConfig needs layers"),
    ],
)
def test_a_wrong_config_is_refused(intermediate: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        hybrid("conformer", intermediate)


def test_an_encoder_has_to_give_its_layers() -> None:
    model = toy_model()
    del model.encoder.num_layers  # type: ignore[attr-defined]
    one = IntermediateCTCConfig([1])
    with pytest.raises(UserError, match=r"intermediate_ctc: ConformerEncoder gives no intermediate layers"):
        HybridModel(6, model.normalise, model.encoder, model.decoder, intermediate_ctc=one)  # type: ignore[arg-type]
