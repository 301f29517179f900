"""Whisper's weights as three projects write them, under our names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from s2s.errors import UserError
from s2s.pretrained.checkpoints import (
    CONFIG,
    GENERATION_CONFIG,
    HUGGINGFACE_NAMES,
    read_json,
    read_pt,
    read_safetensors,
    rename,
)
from s2s.pretrained.ctranslate2 import MODEL, read_model_bin

OPENAI_NAMES = (
    (r"\.conv1\.", ".front.convolutions.0."),
    (r"\.conv2\.", ".front.convolutions.1."),
    (r"\.positional_embedding$", ".positions.weight"),
    (r"\.token_embedding\.", ".embedding."),
    (r"\.blocks\.", ".layers."),
    (r"\.attn_ln\.", ".norm_self."),
    (r"\.cross_attn_ln\.", ".norm_memory."),
    (r"\.mlp_ln\.", ".norm_feed_forward."),
    (r"\.(ln_post|ln)\.", ".norm."),
    (r"\.attn\.", ".self_attention.heads."),
    (r"\.cross_attn\.", ".memory_attention.heads."),
    (r"\.mlp\.0\.", ".feed_forward.expand."),
    (r"\.mlp\.2\.", ".feed_forward.contract."),
)
# A name with "+" is of several matrices, one below the other.
CTRANSLATE2_NAMES = (
    (r"/", "."),
    (r"\.gamma$", ".weight"),
    (r"\.beta$", ".bias"),
    (r"\.conv1\.", ".front.convolutions.0."),
    (r"\.conv2\.", ".front.convolutions.1."),
    (r"\.position_encodings\.encodings$", ".positions.weight"),
    (r"\.embeddings\.", ".embedding."),
    (r"\.layer_(\d+)\.", r".layers.\1."),
    (r"\.self_attention\.layer_norm\.", ".norm_self."),
    (r"\.attention\.layer_norm\.", ".norm_memory."),
    (r"\.ffn\.layer_norm\.", ".norm_feed_forward."),
    (r"\.layer_norm\.", ".norm."),
    (r"\.self_attention\.linear_0\.", ".self_attention.heads.query+key+value."),
    (r"\.self_attention\.linear_1\.", ".self_attention.heads.out."),
    (r"\.attention\.linear_0\.", ".memory_attention.heads.query."),
    (r"\.attention\.linear_1\.", ".memory_attention.heads.key+value."),
    (r"\.attention\.linear_2\.", ".memory_attention.heads.out."),
    (r"\.ffn\.linear_0\.", ".feed_forward.expand."),
    (r"\.ffn\.linear_1\.", ".feed_forward.contract."),
)


@dataclass(frozen=True)
class Source:
    """What a source says: weights under our names, numbers of heads, and the rest only where it says so."""

    weights: dict[str, Tensor]
    encoder_heads: int
    decoder_heads: int
    alignment_heads: Any = None
    suppress_ids: Any = None
    suppress_begin_ids: Any = None


def read_source(path: Path) -> Source:
    """The model in a folder that CTranslate2 or transformers wrote, or in OpenAI's `.pt` file.

    Raises UserError for what is missing, broken, or of another model.
    """
    if (path / MODEL).is_file():
        return _from_ctranslate2(path)
    if (path / CONFIG).is_file():
        return _from_huggingface(path)
    if path.is_file():
        return _from_openai(path)
    raise UserError(f"{path}: no model; expected a folder with {CONFIG} and weights, or OpenAI's .pt file")


def _from_huggingface(folder: Path) -> Source:
    path = folder / CONFIG
    config = read_json(path)
    if config.get("model_type") != "whisper":
        raise UserError(f"{path}: model_type: {config.get('model_type')!r}, expected 'whisper'")
    for key, expected in (("activation_function", "gelu"), ("scale_embedding", False)):
        if config.get(key, expected) != expected:
            raise UserError(f"{path}: {key}: {config[key]!r}, expected {expected!r}, as in all of Whisper")
    weights = rename(read_safetensors(folder), HUGGINGFACE_NAMES)
    _drop_output(folder, weights, "proj_out.weight")
    says = dict(config)
    if (folder / GENERATION_CONFIG).is_file():
        says.update(read_json(folder / GENERATION_CONFIG))
    return Source(
        weights,
        _count(path, config, "encoder_attention_heads"),
        _count(path, config, "decoder_attention_heads"),
        says.get("alignment_heads"),
        says.get("suppress_tokens"),
        says.get("begin_suppress_tokens"),
    )


def _from_openai(path: Path) -> Source:
    content = read_pt(path)
    dims, weights = content.get("dims"), content.get("model_state_dict")
    if not isinstance(dims, dict) or not isinstance(weights, dict):
        raise UserError(f"{path}: not a model of OpenAI's Whisper, which has `dims` and `model_state_dict`")
    return Source(rename(weights, OPENAI_NAMES), _count(path, dims, "n_audio_head"), _count(path, dims, "n_text_head"))


def _from_ctranslate2(folder: Path) -> Source:
    path = folder / MODEL
    model = read_model_bin(path)
    if (model.specification, model.revision) != ("WhisperSpec", 3):
        raise UserError(
            f"{path}: {model.specification} of revision {model.revision}, expected WhisperSpec of revision 3; if it is "
            "Whisper, convert it again with a current CTranslate2"
        )
    weights: dict[str, Tensor] = {}
    for name, value in rename({k: v for k, v in model.variables.items() if v.dim()}, CTRANSLATE2_NAMES).items():
        together = re.search(r"\w+(\+\w+)+", name)
        if together is None:
            weights[name] = value
            continue
        parts = together[0].split("+")
        for part, rows in zip(parts, value.chunk(len(parts)), strict=False):
            weights[name.replace(together[0], part)] = rows.clone()
    _drop_output(path, weights, "decoder.projection.weight")
    says = read_json(folder / CONFIG)
    return Source(
        weights,
        _count(path, model.variables, "encoder/num_heads"),
        _count(path, model.variables, "decoder/num_heads"),
        says.get("alignment_heads"),
        says.get("suppress_ids"),
        says.get("suppress_ids_begin"),
    )


def _drop_output(path: Path, weights: dict[str, Tensor], name: str) -> None:
    """The output matrix is the embedding, wherever a source stores it twice."""
    output, embedding = weights.pop(name, None), weights.get("decoder.embedding.weight")
    if output is not None and (embedding is None or not torch.equal(output, embedding)):
        raise UserError(f"{path}: the output matrix is not the embedding, as it is in Whisper")


def _count(path: Path, config: Mapping[str, Any], key: str) -> int:
    value = config.get(key)
    number = value.item() if isinstance(value, Tensor) and value.dim() == 0 else value
    if not isinstance(number, int) or number < 1:
        raise UserError(f"{path}: {key}: {value!r}, expected a number of heads, 1 or more")
    return number
