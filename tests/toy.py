"""Models small enough to enumerate, with random weights."""

from __future__ import annotations

import torch
from torch import Tensor

from s2s.audio.fbank import Fbank, FbankConfig
from s2s.audio.normalise import GlobalNormalise
from s2s.models.build import build
from s2s.models.bundle import Bundle
from s2s.models.conformer import ConformerEncoder
from s2s.models.hybrid import HybridModel
from s2s.models.memory import Memory
from s2s.models.transformer_decoder import TransformerDecoder
from s2s.nn.subsampling import ConvolutionSubsampling
from s2s.tokenizers.load import train_tokenizer

BLANK, UNK, BOS, EOS = range(4)


def toy_model(vocab_size: int = 6, seed: int = 0) -> HybridModel:
    """A hybrid model of 8 feature bins whose outputs are peaked enough for hypotheses to differ clearly."""
    torch.manual_seed(seed)
    model = HybridModel(
        vocab_size,
        GlobalNormalise(8),
        ConformerEncoder(ConvolutionSubsampling(8, 16, 4), 16, 2, 2, 32, 5),
        TransformerDecoder(vocab_size, 16, 16, 2, 2, 32, dropout=0.1),
    )
    with torch.no_grad():
        for out in (model.ctc.out, model.decoder.out):  # type: ignore[attr-defined]
            out.weight *= 3
        for block in model.encoder.blocks:  # type: ignore[attr-defined]
            torch.nn.init.normal_(block.attention.scheme.position_bias)
    return model.double().eval()


def toy_source(lengths: list[int], seed: int = 0, padding: float = 0.0, more: int = 0) -> tuple[Tensor, Tensor]:
    """Features (B,S,8) float64 with `padding` past each end, `more` frames of it past the longest; lengths (B,)."""
    source = torch.full((len(lengths), max(lengths) + more, 8), padding, dtype=torch.float64)
    for b, length in enumerate(lengths):
        generator = torch.Generator().manual_seed(seed + b)
        source[b, :length] = torch.randn(length, 8, generator=generator, dtype=torch.float64)
    return source, torch.tensor(lengths)


def toy_memory(lengths: list[int], seed: int = 0, dim: int = 16) -> Memory:
    """States (B,T,dim) float64, and a surface; past each end NaN would spread, so there is a large number."""
    generator = torch.Generator().manual_seed(seed)
    states, surface = (
        2 * torch.randn(len(lengths), max(lengths), dim, generator=generator, dtype=torch.float64) for _ in range(2)
    )
    for b, length in enumerate(lengths):
        states[b, length:] = surface[b, length:] = 1e3
    return Memory(states, torch.tensor(lengths), layers={0: Memory(surface, torch.tensor(lengths))})


def toy_bundle() -> Bundle:
    """A whole bundle for 8 kHz speech, untrained."""
    torch.manual_seed(0)
    tokenizer = train_tokenizer("char", ["one two"])
    small = {"model_dim": 16, "num_layers": 1, "num_heads": 2, "feed_forward_dim": 16}
    front = {"_target_": "s2s.nn.subsampling.ConvolutionSubsampling", "input_dim": 23, "model_dim": 16}
    config = {
        "_target_": "s2s.models.hybrid.HybridModel",
        "vocab_size": tokenizer.vocab_size,
        "normalise": {"_target_": "s2s.audio.normalise.GlobalNormalise", "num_bins": 23},
        "encoder": {"_target_": "s2s.models.conformer.ConformerEncoder", "front": front, **small},
        "decoder": {
            "_target_": "s2s.models.transformer_decoder.TransformerDecoder",
            "vocab_size": tokenizer.vocab_size,
            "memory_dim": 16,
            **small,
        },
    }
    model = build(config)
    assert isinstance(model, HybridModel)
    return Bundle(model.eval(), tokenizer, Fbank(FbankConfig(sampling_rate=8000, num_mel_bins=23)), config)
