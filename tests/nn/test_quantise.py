"""Layers with packed weights against those they are made of."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from toy_whisper import toy_whisper_bundle

from s2s.errors import UserError
from s2s.models.memory import Memory
from s2s.models.whisper import Whisper
from s2s.nn.quantise import Float16Embedding, Float16Linear, Int8Linear, set_dtype


def a_whisper(is_half: bool) -> Whisper:
    model = toy_whisper_bundle().model
    return model.half().float() if is_half else model.float()


def log_probs(model: Whisper) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    memory = Memory(torch.randn(2, 5, 8, generator=generator), torch.tensor([5, 3]))
    with torch.no_grad():
        return model.decoder(memory, torch.arange(8).view(2, 4))


def test_weights_that_are_float16_compute_the_same_in_half_the_memory() -> None:
    expected = log_probs(a_whisper(is_half=True))
    packed = set_dtype(a_whisper(is_half=True), "float32")
    assert isinstance(packed.decoder.embedding, Float16Embedding)
    assert isinstance(packed.decoder.out, Float16Linear)
    assert not [m for m in packed.decoder.modules() if isinstance(m, nn.Linear)]
    torch.testing.assert_close(log_probs(packed), expected, rtol=1e-4, atol=1e-5)
    assert [name for name, p in packed.decoder.named_parameters() if p.dim() > 1] == ["positions.weight"]


def test_weights_that_float16_does_not_hold_stay_as_they_are() -> None:
    model = a_whisper(is_half=False)
    expected = log_probs(model)
    assert torch.equal(log_probs(set_dtype(model, "float32")), expected)
    assert model.decoder.out is None
    assert [m for m in model.decoder.modules() if isinstance(m, nn.Linear)]


def test_without_the_kernels_nothing_is_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends, "quantized", SimpleNamespace(supported_engines=["none", "qnnpack"]))
    model = set_dtype(a_whisper(is_half=True), "float32")
    assert not [m for m in model.modules() if isinstance(m, Float16Linear)]


def test_eight_bits_change_little() -> None:
    expected = log_probs(a_whisper(is_half=False))
    packed = set_dtype(a_whisper(is_half=False), "int8")
    assert isinstance(packed.decoder.out, Int8Linear)
    assert not [m for m in packed.modules() if isinstance(m, nn.Linear)]
    assert 0 < (log_probs(packed) - expected).abs().max() < 0.2


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_other_types_are_those_of_all_weights(dtype: str) -> None:
    model = set_dtype(a_whisper(is_half=True), dtype)
    assert {parameter.dtype for parameter in model.parameters()} == {getattr(torch, dtype)}


def test_a_type_that_is_not_known_is_named() -> None:
    with pytest.raises(UserError, match=r"dtype=int9: expected one of float32, .*Did you mean 'int8'"):
        set_dtype(a_whisper(is_half=False), "int9")
