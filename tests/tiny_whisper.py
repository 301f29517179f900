"""Tiny Whispers with random weights, as three projects keep them on disk."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import peers
import torch
from torch import Tensor

from s2s.tokenizers.whisper import LANGUAGES

CT2_DTYPES = (torch.float32, torch.int8, torch.int16, torch.int32, torch.float16, torch.bfloat16)
SPECIAL = (
    *("<|endoftext|>", "<|startoftranscript|>", *(f"<|{code}|>" for code in list(LANGUAGES)[:99])),
    *("<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"),
)
VOCAB_SIZE = 256 + len(SPECIAL) + 1501
SOT = 257


def write_vocabulary(folder: Path) -> None:
    """`vocab.json` with a token a byte, in GPT-2's alphabet, and the special ones."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in visible]
    names = [chr(b) for b in visible] + [chr(256 + i) for i in range(len(hidden))]
    content = {name: index for index, name in enumerate((*names, *SPECIAL))}
    (folder / "vocab.json").write_text(json.dumps(content), encoding="utf-8")


def write_tiktoken(path: Path) -> Path:
    """The same tokens, bytes in order, in OpenAI's format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(base64.b64encode(bytes([b])) + f" {b}\n".encode() for b in range(256)))
    return path


def random_whisper(num_mel_bins: int = 80, seed: int = 0) -> Any:
    """transformers' own model, its biases and norms random too; encoder and decoder of different shapes."""
    transformers = peers.transformers()
    torch.manual_seed(seed)
    config = transformers.WhisperConfig(
        vocab_size=VOCAB_SIZE,
        num_mel_bins=num_mel_bins,
        d_model=16,
        encoder_layers=2,
        decoder_layers=3,
        encoder_attention_heads=4,
        decoder_attention_heads=2,
        encoder_ffn_dim=24,
        decoder_ffn_dim=20,
        max_source_positions=30,
        max_target_positions=12,
        init_std=0.3,
        bos_token_id=256,
        eos_token_id=256,
        pad_token_id=256,
        decoder_start_token_id=SOT,
        begin_suppress_tokens=[32, 256],
    )
    model = transformers.WhisperForConditionalGeneration(config).eval()
    for parameter in model.parameters():
        if parameter.dim() == 1:
            torch.nn.init.normal_(parameter, std=0.5)
    return model


def write_openai(model: Any, path: Path) -> Path:
    """The model as OpenAI's `.pt` file, under its names."""
    weights = {}
    for side, blocks, norm in (("encoder", "encoder.blocks", "ln_post"), ("decoder", "decoder.blocks", "ln")):
        part = getattr(model.model, side)
        weights[f"{side}.positional_embedding"] = part.embed_positions.weight
        weights |= _named(f"{side}.{norm}", part.layer_norm)
        for i, layer in enumerate(part.layers):
            for theirs, attention, its_norm in (
                ("attn", layer.self_attn, layer.self_attn_layer_norm),
                *([("cross_attn", layer.encoder_attn, layer.encoder_attn_layer_norm)] if side == "decoder" else []),
            ):
                for name in ("query", "key", "value", "out"):
                    projection = getattr(attention, f"{name[0]}_proj" if name != "out" else "out_proj")
                    weights |= _named(f"{blocks}.{i}.{theirs}.{name}", projection)
                weights |= _named(f"{blocks}.{i}.{theirs}_ln", its_norm)
            weights |= _named(f"{blocks}.{i}.mlp.0", layer.fc1) | _named(f"{blocks}.{i}.mlp.2", layer.fc2)
            weights |= _named(f"{blocks}.{i}.mlp_ln", layer.final_layer_norm)
    weights |= _named("encoder.conv1", model.model.encoder.conv1) | _named("encoder.conv2", model.model.encoder.conv2)
    weights["decoder.token_embedding.weight"] = model.model.decoder.embed_tokens.weight
    config = model.config
    dims = {"n_audio_head": config.encoder_attention_heads, "n_text_head": config.decoder_attention_heads}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"dims": dims, "model_state_dict": {name: w.detach().clone() for name, w in weights.items()}}, path)
    return path


def write_ctranslate2(model: Any, folder: Path, dtype: torch.dtype = torch.float32, config: str = "{}") -> Path:
    """The model as a CTranslate2 directory, with our vocabulary; matrices of int8 have a scale a row."""
    variables: dict[str, Tensor] = {}

    def add(name: str, *parts: torch.nn.Module) -> None:
        zeros = [torch.zeros(len(part.weight)) for part in parts]
        weight = torch.cat([part.weight.detach() for part in parts])
        if dtype == torch.int8:
            scale = 127 / weight.flatten(1).abs().amax(dim=1)
            variables[f"{name}/weight_scale"] = scale
            weight = (weight * scale.view(-1, *[1] * (weight.dim() - 1))).round()
        variables[f"{name}/weight"] = weight.to(dtype)
        if any(getattr(part, "bias", None) is not None for part in parts):
            biases = [
                zero if part.bias is None else part.bias.detach() for part, zero in zip(parts, zeros, strict=True)
            ]
            variables[f"{name}/bias"] = torch.cat(biases).to(plain)

    def add_norm(name: str, norm: torch.nn.LayerNorm) -> None:
        variables[f"{name}/gamma"], variables[f"{name}/beta"] = (x.detach().to(plain) for x in (norm.weight, norm.bias))

    plain = torch.float32 if dtype == torch.int8 else dtype
    for side in ("encoder", "decoder"):
        part = getattr(model.model, side)
        heads = getattr(model.config, f"{side}_attention_heads")
        variables[f"{side}/num_heads"] = torch.tensor(heads, dtype=torch.int16)
        variables[f"{side}/position_encodings/encodings"] = part.embed_positions.weight.detach().to(plain)
        add_norm(f"{side}/layer_norm", part.layer_norm)
        for i, layer in enumerate(part.layers):
            name, attention = f"{side}/layer_{i}", layer.self_attn
            add(f"{name}/self_attention/linear_0", attention.q_proj, attention.k_proj, attention.v_proj)
            add(f"{name}/self_attention/linear_1", attention.out_proj)
            add_norm(f"{name}/self_attention/layer_norm", layer.self_attn_layer_norm)
            if side == "decoder":
                attention = layer.encoder_attn
                add(f"{name}/attention/linear_0", attention.q_proj)
                add(f"{name}/attention/linear_1", attention.k_proj, attention.v_proj)
                add(f"{name}/attention/linear_2", attention.out_proj)
                add_norm(f"{name}/attention/layer_norm", layer.encoder_attn_layer_norm)
            add(f"{name}/ffn/linear_0", layer.fc1)
            add(f"{name}/ffn/linear_1", layer.fc2)
            add_norm(f"{name}/ffn/layer_norm", layer.final_layer_norm)
    add("encoder/conv1", model.model.encoder.conv1)
    add("encoder/conv2", model.model.encoder.conv2)
    add("decoder/embeddings", model.model.decoder.embed_tokens)
    folder.mkdir(parents=True, exist_ok=True)
    content = model_bin(variables, {"decoder/projection/weight": "decoder/embeddings/weight"})
    (folder / "model.bin").write_bytes(content)
    (folder / "config.json").write_text(config, encoding="utf-8")
    write_vocabulary(folder)
    return folder


def model_bin(
    variables: Mapping[str, Tensor],
    aliases: Mapping[str, str] | None = None,
    version: int = 6,
    specification: str = "WhisperSpec",
    revision: int = 3,
) -> bytes:
    """The content of CTranslate2's `model.bin`."""
    parts = [struct.pack("<I", version), _text(specification), struct.pack("<II", revision, len(variables))]
    for name, value in variables.items():
        content = value.contiguous().view(-1).view(torch.uint8).numpy().tobytes()
        shape = struct.pack(f"<B{value.dim()}I", value.dim(), *value.shape)
        parts += [_text(name), shape, struct.pack("<BI", CT2_DTYPES.index(value.dtype), len(content)), content]
    parts.append(struct.pack("<I", len(aliases or {})))
    for alias, name in (aliases or {}).items():
        parts += [_text(alias), _text(name)]
    return b"".join(parts)


def _named(name: str, module: torch.nn.Module) -> dict[str, Tensor]:
    return {f"{name}.{key}": value for key, value in module.state_dict().items()}


def _text(value: str) -> bytes:
    return struct.pack("<H", len(value.encode()) + 1) + value.encode() + b"\0"
