"""Models small enough to enumerate, with random weights."""

from __future__ import annotations

import torch

from s2s.audio.normalise import GlobalNormalise
from s2s.models.conformer import ConformerEncoder
from s2s.models.hybrid import HybridModel
from s2s.models.memory import Memory
from s2s.models.transformer_decoder import TransformerDecoder

BLANK, UNK, BOS, EOS = range(4)


def toy_model(
    vocab_size: int = 6, seed: int = 0, dtype: torch.dtype = torch.float64, sharp: float = 3.0
) -> HybridModel:
    """A hybrid model of 8 feature bins whose outputs are peaked enough for hypotheses to differ clearly."""
    torch.manual_seed(seed)
    model = HybridModel(
        vocab_size,
        GlobalNormalise(8),
        ConformerEncoder(8, 16, 2, 2, 32, 5, 4, dropout=0.1),
        TransformerDecoder(vocab_size, 16, 16, 2, 2, 32, dropout=0.1),
    )
    with torch.no_grad():
        for out in (model.ctc.out, model.decoder.out):  # type: ignore[attr-defined]
            out.weight *= sharp
        for block in model.encoder.blocks:  # type: ignore[attr-defined]
            torch.nn.init.normal_(block.attention.position_bias)
    return model.to(dtype).eval()


def toy_source(
    lengths: list[int], seed: int = 0, padding: float = 0.0, more: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Features (B,S,8) float64 with `padding` past each end, `more` frames of it past the longest; lengths (B,)."""
    source = torch.full((len(lengths), max(lengths) + more, 8), padding, dtype=torch.float64)
    for b, length in enumerate(lengths):
        source[b, :length] = torch.randn(
            length, 8, generator=torch.Generator().manual_seed(seed + b), dtype=torch.float64
        )
    return source, torch.tensor(lengths)


def toy_memory(lengths: list[int], seed: int = 0, dim: int = 16) -> Memory:
    """States (B,T,dim) float64; past each end NaN would spread, so there is a large number."""
    generator = torch.Generator().manual_seed(seed)
    states = 2 * torch.randn(len(lengths), max(lengths), dim, generator=generator, dtype=torch.float64)
    for b, length in enumerate(lengths):
        states[b, length:] = 1e3
    return Memory(states, torch.tensor(lengths))
