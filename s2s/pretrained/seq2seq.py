"""Marian (OPUS-MT) and BART, as transformers writes them, into our encoder-decoder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from s2s.errors import UserError
from s2s.models.build import build_empty
from s2s.models.bundle import CARD
from s2s.models.encoder_decoder import EncoderDecoder
from s2s.models.translation_bundle import TranslationBundle
from s2s.pretrained.checkpoints import (
    CONFIG,
    HUB_FILES,
    HUB_ID,
    HUGGINGFACE_NAMES,
    INDEX,
    WEIGHTS,
    from_hub,
    read_pt,
    read_safetensors,
    rename,
)
from s2s.pretrained.settings import Settings
from s2s.tokenizers.bart import BartTokenizer
from s2s.tokenizers.marian import MarianTokenizer
from s2s.version import __version__

OLD_WEIGHTS = "pytorch_model.bin"
NAMES = (
    *HUGGINGFACE_NAMES,
    (r"\.layernorm_embedding\.", ".norm_embedding."),
    (r"^encoder\.embedding\.", "encoder.front.embedding."),
)
EMBEDDINGS = ("encoder.front.embedding.weight", "decoder.embedding.weight")
POSITIONS = ("encoder.positions.weight", "decoder.positions.weight")
ACTIVATIONS = {"relu": "relu", "gelu": "gelu", "silu": "silu", "swish": "silu"}


@dataclass(frozen=True)
class Family:
    """What models of one kind have in common; `fixed` are settings with the one value that is read, where they are."""

    norm_embedding: bool
    unused_positions: int  # rows before that of the first position
    tokenizer: type[MarianTokenizer | BartTokenizer]
    fixed: Mapping[str, bool]


_POST_NORM = {"normalize_before": False, "add_final_layer_norm": False, "add_bias_logits": False}
FAMILIES = {
    "marian": Family(
        norm_embedding=False,
        unused_positions=0,
        tokenizer=MarianTokenizer,
        fixed={**_POST_NORM, "normalize_embedding": False, "static_position_embeddings": True},
    ),
    "bart": Family(
        norm_embedding=True,
        unused_positions=2,
        tokenizer=BartTokenizer,
        fixed={**_POST_NORM, "normalize_embedding": True, "static_position_embeddings": False},
    ),
}


def read_seq2seq(folder: Path, kind: str | None = None) -> TranslationBundle:
    """A model of Marian or BART from a folder that transformers wrote, with its tokenizer and settings of its search.

    Weights keep their types. Raises UserError for what is missing, broken, of another kind than `kind` ("marian",
    "bart"; default: both are taken), not supported, or does not fit together.
    """
    says = Settings(folder)
    model_type = str(says.get("model_type"))
    wanted = FAMILIES if kind is None else (kind,)
    if model_type not in wanted:
        raise UserError(f"{says.place('model_type')}: '{model_type}', expected {' or '.join(map(repr, wanted))}")
    family = FAMILIES[model_type]
    for key, expected in family.fixed.items():
        if says.get(key, expected) != expected:
            raise UserError(
                f"{says.place(key)}: {says.get(key)!r}, expected {expected!r}, the only {model_type} that is supported"
            )
    weights = _weights(folder, says, family)
    config = _config(says, family, tied="decoder.out.weight" not in weights)
    prompt = config["decoder"].get("prompt", [])
    if prompt:  # one decoder within another
        weights = rename(weights, ((r"^decoder\.", "decoder.decoder."),))
    tokenizer = family.tokenizer.from_huggingface(folder, config["vocab_size"])
    if tokenizer.source_vocab_size > config["encoder"]["front"]["vocab_size"]:
        raise UserError(
            f"{folder}: the tokenizer has more pieces than the vocab_size in {CONFIG}; give the model's own"
        )
    if tokenizer.eos_id != config["eos_id"]:
        raise UserError(
            f"{says.place('eos_token_id')}: {config['eos_id']}, but </s> of the tokenizer is {tokenizer.eos_id}; give "
            "the model's own"
        )
    model = build_empty(config, str(folder / CONFIG))
    assert isinstance(model, EncoderDecoder)
    _check_fit(folder, weights, model.state_dict())
    model.load_state_dict(weights, assign=True)
    return TranslationBundle(model.eval(), tokenizer, config, _decoding(says, len(prompt) + 1))


def find_checkpoint(model: str) -> Path:
    """The folder that `model` names: itself, or what the hub's cache has of a repository ("owner/name").

    Raises UserError for what is neither, and where the hub has no answer.
    """
    folder = Path(model)
    if not folder.exists() and HUB_ID.fullmatch(model):
        folder = from_hub(model, (*HUB_FILES, "pytorch_model.bin"))
    if not (folder / CONFIG).is_file():
        raise UserError(
            f"'{model}': no translation model; expected a translation bundle, a folder of Marian or BART that "
            "transformers wrote, or a repository of the Hugging Face hub (owner/name)"
        )
    return folder


def import_seq2seq(source: str, folder: Path, name: str, kind: str) -> None:
    """Write the bundle of what `find_checkpoint` takes, with a model card, to a folder that does not exist yet."""
    bundle = read_seq2seq(find_checkpoint(source), kind)
    bundle.write(folder)
    millions = sum(p.numel() for p in bundle.model.parameters()) / 1e6
    lines = [
        f"# {name}",
        "",
        f"Made with s2s {__version__}. {kind.capitalize()} of {millions:.2f} M parameters, "
        f"{bundle.tokenizer.vocab_size} pieces. The weights were read from {source}; their licence is that of "
        "those who trained them.",
        "",
        "## Use",
        "",
        "```sh",
        f"s2s translate --model {name} text.txt",
        "```",
    ]
    (folder / CARD).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _config(says: Settings, family: Family, tied: bool) -> dict[str, Any]:
    """The config of our model, of what transformers says of theirs."""
    vocab_size, model_dim = says.whole("vocab_size"), says.whole("d_model")
    is_shared = says.get("share_encoder_decoder_embeddings", True) or says.get("decoder_vocab_size") is None
    target_size = vocab_size if is_shared else says.whole("decoder_vocab_size")
    activation = says.get("activation_function")
    if activation not in ACTIVATIONS:
        raise UserError(f"{says.place('activation_function')}: {activation!r}, expected {', '.join(ACTIVATIONS)}")
    scale = bool(says.get("scale_embedding", False))
    sides: dict[str, dict[str, Any]] = {}
    for side in ("encoder", "decoder"):
        sides[side] = {
            "model_dim": model_dim,
            "num_layers": says.whole(f"{side}_layers"),
            "num_heads": says.whole(f"{side}_attention_heads"),
            "feed_forward_dim": says.whole(f"{side}_ffn_dim"),
            "dropout": 0.0,
            "activation": ACTIVATIONS[activation],
            "pre_norm": False,
            "final_norm": False,
            "positions": "learned",
            "max_positions": says.whole("max_position_embeddings"),
            "norm_embedding": family.norm_embedding,
        }
    decoder = {
        "_target_": "s2s.models.transformer_decoder.TransformerDecoder",
        "vocab_size": target_size,
        "memory_dim": model_dim,
        **sides["decoder"],
        "scale_embedding": scale,
        "tie_output": tied,
    }
    bos_id = says.token("decoder_start_token_id", target_size)
    if says.get("forced_bos_token_id") is not None:
        prompt, bos_id = [bos_id], says.token("forced_bos_token_id", target_size)
        decoder = {"_target_": "s2s.models.prompted_decoder.PromptedDecoder", "decoder": decoder, "prompt": prompt}
    front = {
        "_target_": "s2s.nn.embedding.TokenFront",
        "vocab_size": vocab_size,
        "model_dim": model_dim,
        "scale": scale,
    }
    return {
        "_target_": "s2s.models.encoder_decoder.EncoderDecoder",
        "vocab_size": target_size,
        "encoder": {
            "_target_": "s2s.models.transformer_encoder.TransformerEncoder",
            "front": front,
            **sides["encoder"],
        },
        "decoder": decoder,
        "bos_id": bos_id,
        "eos_id": says.token("eos_token_id", target_size),
    }


def _weights(folder: Path, says: Settings, family: Family) -> dict[str, Tensor]:
    """The tensors under our names; what transformers keeps once, or computes, is there."""
    old = folder / OLD_WEIGHTS
    is_old = old.is_file() and not any((folder / name).is_file() for name in (WEIGHTS, INDEX))
    tensors = rename(read_pt(old) if is_old else read_safetensors(folder), NAMES)
    other = [name for name, tensor in tensors.items() if not isinstance(tensor, Tensor)]
    if other:
        raise UserError(f"{old}: '{other[0]}' is no tensor; expected the weights alone")
    shared, output = tensors.pop("shared.weight", None), tensors.pop("lm_head.weight", None)
    bias = tensors.pop("final_logits_bias", None)
    for name in EMBEDDINGS:
        if shared is not None and name not in tensors:
            tensors[name] = shared.clone()
    embedding = tensors.get("decoder.embedding.weight")
    is_tied = output is None or (embedding is not None and torch.equal(output, embedding))
    if output is not None and not is_tied:
        tensors["decoder.out.weight"] = output
    if embedding is not None:
        bias = embedding.new_zeros(len(embedding)) if bias is None else bias.flatten()
        tensors["decoder.out_bias" if is_tied else "decoder.out.bias"] = bias
    for name in POSITIONS:
        if name in tensors:
            tensors[name] = tensors[name][family.unused_positions :].clone()
        elif not family.unused_positions:
            tensors[name] = sinusoids(says.whole("max_position_embeddings"), says.whole("d_model"))
    return tensors


def sinusoids(num_positions: int, dim: int) -> Tensor:
    """Marian's positions (num_positions, dim): the sines of Vaswani et al. 2017, section 3.5, then all the cosines."""
    rates = torch.exp(torch.arange(0, dim, 2, dtype=torch.double) * (-math.log(10000.0) / dim))
    angles = torch.arange(num_positions, dtype=torch.double).unsqueeze(1) * rates
    return torch.cat((angles.sin(), angles.cos()), dim=1).float()


def _check_fit(folder: Path, weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    wrong = [k for k, v in expected.items() if k not in weights or weights[k].shape != v.shape]
    wrong += [k for k, v in weights.items() if k not in expected or not v.is_floating_point()]
    if wrong:
        raise UserError(f"{folder}: '{wrong[0]}' (of {len(wrong)} tensors) of the weights does not fit {CONFIG}")


def _decoding(says: Settings, num_begin: int) -> dict[str, Any]:
    """How transformers would search; its lengths count eos, and the `num_begin` tokens that a text begins with."""
    found: dict[str, Any] = {}
    for theirs, ours, least, less in (
        ("num_beams", "beam_size", 1, 0),
        ("no_repeat_ngram_size", "no_repeat_ngram", 0, 0),
        ("min_length", "min_length", 0, num_begin),
        ("max_length", "max_length", 1, num_begin + 1),
    ):
        if says.get(theirs) is not None:
            found[ours] = max(least, says.whole(theirs, 0) - less)
    penalty = says.get("length_penalty")
    if penalty is not None:
        if not isinstance(penalty, int | float) or penalty < 0:
            raise UserError(f"{says.place('length_penalty')}: {penalty!r}, expected a number, 0 or more")
        found["length_power"] = float(penalty)
    return found
