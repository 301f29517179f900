"""Layers that are computed again, or compiled: the same gradients, less memory, the same files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from toy import toy_source

from s2s.errors import UserError
from s2s.models.conformer import ConformerEncoder
from s2s.models.encoder_decoder import EncoderDecoder
from s2s.models.transformer_decoder import TransformerDecoder
from s2s.nn.subsampling import ConvolutionSubsampling
from s2s.training.checkpoint import latest_training
from s2s.training.config import load_train_config
from s2s.training.layers import compile_layers, layers_of, recompute
from s2s.training.loop import Trainer
from s2s.training.memory import kept_bytes


def model(dropout: float = 0.3) -> EncoderDecoder:
    torch.manual_seed(0)
    encoder = ConformerEncoder(ConvolutionSubsampling(8, 16, 4), 16, 3, 2, 32, 5, dropout=dropout)
    return EncoderDecoder(7, encoder, TransformerDecoder(7, 16, 16, 2, 2, 32, dropout)).train()


def loss_and_gradients(given: EncoderDecoder) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    source, lengths = toy_source([40, 27])
    torch.manual_seed(1)
    loss = given(source.float(), lengths, torch.tensor([[4, 5, 6], [5, 4, 4]]), torch.tensor([3, 2])).sum()
    loss.backward()
    return loss.detach(), {name: p.grad for name, p in given.named_parameters() if p.grad is not None}


def test_the_layers_are_those_of_encoder_and_decoder() -> None:
    assert len(layers_of(model())) == 3 + 2
    assert layers_of(nn.Sequential(nn.Linear(2, 2))) == []


@pytest.mark.parametrize(("way", "dropout"), [("recompute", 0.3), ("eager", 0.0), ("aot_eager", 0.0)])
def test_loss_and_gradients_are_the_same(way: str, dropout: float) -> None:
    """With the same dropout too where they are computed again; what is compiled draws other random numbers."""
    plain, changed = model(dropout), model(dropout)
    if way == "recompute":
        recompute(changed)
    else:
        torch.compiler.reset()
        compile_layers(changed, way)
    assert list(changed.state_dict()) == list(plain.state_dict())
    (loss, gradients), (other, others) = loss_and_gradients(plain), loss_and_gradients(changed)
    torch.testing.assert_close(other, loss)
    assert gradients.keys() == others.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(others[name], gradient, msg=name)


def test_without_a_compiler_it_is_said_before_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(UserError, match=r"training\.compile=inductor: needs a C\+\+ compiler"):
        compile_layers(model(), "inductor")


def test_less_is_kept_for_the_backward_pass() -> None:
    def kept(given: EncoderDecoder) -> float:
        source, lengths = toy_source([400, 400])
        target = torch.randint(4, 7, (2, 20))
        return kept_bytes(given, lambda: given(source.float(), lengths, target, torch.tensor([20, 20])))

    changed = model()
    recompute(changed)
    assert kept(changed) < 0.5 * kept(model())


def test_a_training_that_recomputes_is_the_one_that_does_not(tiny: list[str], tmp_path: Path) -> None:
    weights = []
    for name, more in (("plain", []), ("again", ["training.recompute=true"])):
        options = [f"exp_dir={tmp_path / name}", *tiny, "training.max_epochs=1", *more]
        Trainer(load_train_config("train", options), lambda text: None).run()
        saved = latest_training(tmp_path / name / "states")
        assert saved is not None
        weights.append(load_file(saved / "model.safetensors"))
    for name, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][name], tensor, msg=name)
