"""Whispers small enough to enumerate, with random weights."""

from __future__ import annotations

import torch
from tiny_whisper import SPECIAL
from torch import Tensor

from s2s.audio.log_mel import LogMel, LogMelConfig
from s2s.decoding.whisper import TimestampTokens
from s2s.models.build import build
from s2s.models.bundle import Bundle
from s2s.models.whisper import Whisper
from s2s.tokenizers.byte_bpe import ByteBPE
from s2s.tokenizers.whisper import WhisperTokenizer

BINS = 8
# The vocabulary of `toy_whisper`: tokens of text, these, and the times.
TEXTS = 4
EOS, SOT, PREVIOUS, NO_TIMES, BEGIN = range(TEXTS, TEXTS + 5)
TIMES = TimestampTokens(BEGIN, NO_TIMES, max_initial=2)


def _config(
    vocab_size: int, bins: int, max_frames: int, max_positions: int, layers: int, dim: int
) -> dict[str, object]:
    name = "s2s.models."
    sizes = {"model_dim": dim, "num_layers": layers, "num_heads": 2, "feed_forward_dim": 20, "activation": "gelu"}
    front = {"_target_": "s2s.nn.subsampling.ConvolutionFront", "input_dim": bins, "model_dim": dim}
    return {
        "_target_": f"{name}whisper.Whisper",
        "vocab_size": vocab_size,
        "encoder": {
            "_target_": f"{name}transformer_encoder.TransformerEncoder",
            "front": front,
            "positions": "learned",
            "max_positions": max_frames,
            **sizes,
        },
        "decoder": {
            "_target_": f"{name}transformer_decoder.TransformerDecoder",
            "vocab_size": vocab_size,
            "memory_dim": dim,
            "positions": "learned",
            "max_positions": max_positions,
            "scale_embedding": False,
            "tie_output": True,
            **sizes,
        },
    }


def toy_whisper(
    max_frames: int = 6, num_texts: int = TEXTS, max_positions: int = 24, seed: int = 0, peaks: float = 1.5
) -> Whisper:
    """A Whisper of 8 bins with a time for every frame and one more; tokens differ clearly in probability.

    The tokens are `num_texts` of text, then EOS, SOT, PREVIOUS and NO_TIMES, then the times; of all but the last the
    first of text and EOS may not begin.
    """
    torch.manual_seed(seed)
    eos_id = num_texts
    config = _config(num_texts + 4 + max_frames + 1, BINS, max_frames, max_positions, layers=2, dim=16)
    never = {"suppress_ids": [eos_id + 1, eos_id + 2], "suppress_begin_ids": [0, eos_id]}
    model = build({**config, "bos_id": eos_id + 1, "eos_id": eos_id, "alignment_heads": [[1, 0], [1, 1]], **never})
    assert isinstance(model, Whisper)
    with torch.no_grad():
        torch.nn.init.normal_(model.decoder.out_bias)  # type: ignore[arg-type]
        model.decoder.embedding.weight *= peaks
        for layer in model.decoder.layers:
            layer.memory_attention.heads.out.weight *= 3
    return model.double().eval()


def toy_features(
    lengths: list[int], seed: int = 0, padding: float = float("nan"), more: int = 0
) -> tuple[Tensor, Tensor]:
    """Features (B,S,8) float64, `padding` past each end and in `more` frames past the longest; lengths (B,)."""
    source = torch.full((len(lengths), max(lengths) + more, BINS), padding, dtype=torch.float64)
    for b, length in enumerate(lengths):
        generator = torch.Generator().manual_seed(seed + b)
        source[b, :length] = torch.randn(length, BINS, generator=generator, dtype=torch.float64)
    return source, torch.tensor(lengths)


def toy_whisper_bundle(multilingual: bool = True, seed: int = 0) -> Bundle[Whisper]:
    """A whole bundle that hears 30 s, with a token for every byte; an English-only model has GPT-2's end of text."""
    torch.manual_seed(seed)
    tokens = {bytes([byte]): byte for byte in range(256)}
    first = len(tokens) if multilingual else 50256
    special = {name: first + i for i, name in enumerate(SPECIAL)}
    vocab_size = first + len(SPECIAL) + 1501
    tokenizer = WhisperTokenizer(ByteBPE(tokens), special, vocab_size)
    config = _config(vocab_size, BINS, 1500, 448, layers=1, dim=8)
    ids = {"bos_id": tokenizer.bos_id, "eos_id": tokenizer.eos_id, "alignment_heads": [[0, 0], [0, 1]]}
    config |= {**ids, "suppress_ids": [], "suppress_begin_ids": [32, tokenizer.eos_id]}
    model = build(config)
    assert isinstance(model, Whisper)
    return Bundle(model.eval(), tokenizer, LogMel(LogMelConfig(num_mel_bins=BINS)).eval(), config)
