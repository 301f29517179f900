"""Whisper's weights, from whoever wrote them, into our model."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from s2s.audio.log_mel import LogMel, LogMelConfig
from s2s.errors import UserError
from s2s.models.build import build_empty
from s2s.models.bundle import CARD, Bundle
from s2s.models.card import model_card
from s2s.models.whisper import Whisper
from s2s.pretrained.alignment_heads import SIZES, alignment_heads
from s2s.pretrained.vocabulary import find_vocabulary, read_vocabulary, vocabulary_beside
from s2s.pretrained.whisper_sources import Source, read_source
from s2s.tokenizers.whisper import WhisperTokenizer

NOTES = "♩♪♫♬♭♮♯"
SYMBOLS = [*'"#()*+/:;<=>@[\\]^_`{|}~「」『』', *NOTES]
SYMBOLS += ["<<", ">>", "<<<", ">>>", "--", "---", "((", "))", "(((", ")))", "[[", "]]", "{{", "}}", "♪♪", "♪♪♪"]
SYMBOLS += ["-(", "-[", "('", '("']


def read_whisper(path: Path, vocabulary: Path | None = None, size: str | None = None) -> Bundle[Whisper]:
    """Whisper from a folder that transformers or CTranslate2 wrote, or from OpenAI's `.pt` file.

    Weights keep their type, the widest where there are several; int8 and int16 become float32. The tokenizer is that of
    `vocabulary`, else the one beside the weights, else OpenAI's. `size` ("large-v2") is that of the model where its
    numbers do not tell. Raises UserError for what is missing, broken, of another model, or does not fit together.
    """
    source = read_source(path)
    vocab_size = _shape(path, source.weights, "decoder.embedding.weight", 2)[0]
    if vocabulary:
        tokenizer = read_vocabulary(vocabulary, vocab_size)
    else:
        tokenizer = vocabulary_beside(path, vocab_size) or find_vocabulary(vocab_size)
    config = _config(path, source, tokenizer, size)
    model = build_empty(config, str(path))
    assert isinstance(model, Whisper)
    model.load_state_dict(_fitting(path, source.weights, model.state_dict()), assign=True)
    features = LogMel(LogMelConfig(num_mel_bins=config["encoder"]["front"]["input_dim"]))
    return Bundle(model.eval(), tokenizer, features.eval(), config)


def write_whisper(bundle: Bundle[Whisper], folder: Path, name: str, origin: str) -> None:
    """Write the bundle and its model card to a folder that does not exist yet; the weights are from `origin`."""
    about = (
        "Whisper (Radford et al. 2022, arXiv:2212.04356), which OpenAI trained on speech from the web. The weights "
        f"were read from {origin}.\n\n## Licence\n\nOpenAI's weights of Whisper are under the MIT licence; a model "
        "that others trained further may have another."
    )
    bundle.write(folder)
    (folder / CARD).write_text(model_card(bundle, name, name, about, {}), encoding="utf-8")


def non_speech_ids(tokenizer: WhisperTokenizer) -> list[int]:
    """Ids of brackets, notes, dashes and the like, which would write what nobody said; openai/whisper's symbols."""
    found = {tokenizer.encode(text)[0] for text in (" -", " '")}  # at the begin of a word; within, they are spelling
    for symbol in SYMBOLS:
        for ids in (tokenizer.encode(symbol), tokenizer.encode(f" {symbol}")):
            if len(ids) == 1 or symbol in NOTES:  # the first piece of a note is of nothing but symbols
                found.add(ids[0])
    return sorted(found)


def _config(path: Path, source: Source, tokenizer: WhisperTokenizer, size: str | None) -> dict[str, Any]:
    """The config of the model that the weights are of: nearly all of it is in their shapes."""
    weights = source.weights
    vocab_size, model_dim = _shape(path, weights, "decoder.embedding.weight", 2)
    input_dim = _shape(path, weights, "encoder.front.convolutions.0.weight", 3)[1]
    front = {"_target_": "s2s.nn.subsampling.ConvolutionFront", "input_dim": input_dim, "model_dim": model_dim}
    sides: dict[str, dict[str, Any]] = {}
    for side, num_heads in (("encoder", source.encoder_heads), ("decoder", source.decoder_heads)):
        sides[side] = {
            "model_dim": model_dim,
            "num_layers": len({name.split(".")[2] for name in weights if name.startswith(f"{side}.layers.")}),
            "num_heads": num_heads,
            "feed_forward_dim": _shape(path, weights, f"{side}.layers.0.feed_forward.expand.weight", 2)[0],
            "dropout": 0.0,
            "activation": "gelu",
            "positions": "learned",
            "max_positions": _shape(path, weights, f"{side}.positions.weight", 2)[0],
        }
    num_layers = sides["decoder"]["num_layers"]
    size = size or SIZES.get((model_dim, sides["encoder"]["num_layers"], num_layers, vocab_size))
    suppress, suppress_begin = source.suppress_ids, source.suppress_begin_ids
    if suppress is None:
        suppress = non_speech_ids(tokenizer)
    if suppress_begin is None:
        suppress_begin = [*tokenizer.encode(" "), tokenizer.eos_id]
    asking = {tokenizer.sot_id, tokenizer.sot_prev_id, tokenizer.sot_lm_id, tokenizer.no_speech_id}
    asking |= {tokenizer.translate_id, tokenizer.transcribe_id}  # in prompts, never to be written
    return {
        "_target_": "s2s.models.whisper.Whisper",
        "vocab_size": vocab_size,
        "encoder": {
            "_target_": "s2s.models.transformer_encoder.TransformerEncoder",
            "front": front,
            **sides["encoder"],
        },
        "decoder": {
            "_target_": "s2s.models.transformer_decoder.TransformerDecoder",
            "vocab_size": vocab_size,
            "memory_dim": model_dim,
            **sides["decoder"],
            "scale_embedding": False,
            "tie_output": True,
            "out_bias": False,
        },
        "bos_id": tokenizer.bos_id,
        "eos_id": tokenizer.eos_id,
        "alignment_heads": _heads(path, source, num_layers) or alignment_heads(size, num_layers, source.decoder_heads),
        "suppress_ids": sorted({*_ids(path, "suppress", suppress, vocab_size), *asking}),
        "suppress_begin_ids": _ids(path, "suppress at the begin", suppress_begin, vocab_size),
    }


def _heads(path: Path, source: Source, num_layers: int) -> list[list[int]]:
    """The alignment heads that the source names, checked; none where it names none."""
    try:
        heads = [[layer, head] for layer, head in source.alignment_heads or []]
        good = all(0 <= layer < num_layers and 0 <= head < source.decoder_heads for layer, head in heads)
    except (TypeError, ValueError):
        good = False
    if not good:
        raise UserError(
            f"{path}: alignment_heads: {source.alignment_heads!r}, expected [layer, head] of a decoder of {num_layers} "
            f"layers with {source.decoder_heads} heads"
        )
    return heads


def _ids(path: Path, what: str, ids: Any, vocab_size: int) -> list[int]:
    if not isinstance(ids, list) or not all(isinstance(i, int) and 0 <= i < vocab_size for i in ids):
        raise UserError(f"{path}: the tokens to {what} are {ids!r}, expected a list of ids from 0 to {vocab_size - 1}")
    return ids


def _shape(path: Path, weights: Mapping[str, Tensor], name: str, rank: int) -> tuple[int, ...]:
    """The shape of a matrix that every Whisper has."""
    if name not in weights or weights[name].dim() != rank:
        raise UserError(f"{path}: not the weights of Whisper: '{name}' is missing, or has another rank than {rank}")
    return tuple(weights[name].shape)


def _fitting(path: Path, weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights in one type, with the biases of the keys, which Whisper has not: zeros."""
    complete = dict(weights)
    for name in weights:
        if name.endswith(".key.weight"):
            bias = name.removesuffix("weight") + "bias"
            complete.setdefault(bias, weights[name].new_zeros(len(weights[name])))
    wrong = [k for k, v in expected.items() if k not in complete or complete[k].shape != v.shape]
    wrong += [k for k, v in complete.items() if k not in expected or not v.is_floating_point()]
    if wrong:
        raise UserError(f"{path}: not the weights of Whisper: '{wrong[0]}' (of {len(wrong)} tensors) does not fit")
    dtype = reduce(torch.promote_types, (tensor.dtype for tensor in complete.values()))
    return {name: tensor.to(dtype) for name, tensor in complete.items()}
