"""Trained multi-head attention into kinds that keep fewer keys and values."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from s2s.errors import UserError, nearest
from s2s.files import replacing
from s2s.models import lm_bundle, translation_bundle
from s2s.models.attentions import attentions, options_of, with_options
from s2s.models.build import build_empty
from s2s.models.bundle import CONFIG, read_config, read_model, write_folder
from s2s.nn.attention.attention import Attention
from s2s.nn.attention.keys_only import KeysOnly
from s2s.nn.attention.multi_head import MultiHead
from s2s.nn.attention.relative import Relative

MODEL_KEYS = ("model", lm_bundle.KEY, translation_bundle.KEY)  # of the config of a bundle
PARTS = ("encoder", "self", "cross")
CACHED = ("self", "cross")
KEYS_ONLY = {"projection": "keys_only"}


class Converted(NamedTuple):
    """A model after conversion, and the config that `build` makes it from."""

    model: nn.Module
    config: dict[str, Any]
    parts: list[str]  # those that were changed
    condition: float  # the largest condition number of a matrix that had to be inverted, 1 where none had


def convert(
    model: nn.Module,
    config: Mapping[str, Any],
    change: Mapping[str, Any],
    parts: Sequence[str] | None = None,
    where: str = "model",
) -> Converted:
    """`model`, built from `config`, with the attention of some parts changed, in the config and the weights.

    `change` is what is new in an `AttentionConfig`: {"kv_heads": n} for the mean of each group of heads, to be trained
    on (Ainslie et al. 2023, arXiv:2305.13245, section 2.1), `KEYS_ONLY` for the same attention of which less is kept
    (Graef and Wasielewski 2025, arXiv:2503.05840). `parts` are "encoder", and "self" and "cross" of decoders; None:
    those of which something is kept. `where` is the key that errors name. Raises UserError where a part is not there,
    is not multi-head attention, or cannot be changed so.
    """
    for part in parts or ():
        if part not in PARTS:
            raise UserError(f"part '{part}': expected {', '.join(PARTS)}.{nearest(part, PARTS)}")
    chosen = {name: each for name, each in attentions(model).items() if _part(name, each) in (parts or CACHED)}
    found = {_part(name, each) for name, each in chosen.items()}
    missing = [part for part in parts or () if part not in found]
    if missing or not found:
        raise UserError(f"{where}: has no attention of the part {' or '.join(missing or CACHED)}")
    options = {}
    for name, each in chosen.items():
        _check_multi_head(f"{where}: {name}", each.heads)
        options[name] = {key: value for key, value in options_of(each).items() if key != "kv_heads"} | dict(change)
    new = with_options(model, config, options)
    after = build_empty(new, where)
    weights, condition = dict(model.state_dict()), 1.0
    for name, each in chosen.items():
        heads = f"{name}.heads"
        try:
            own, its = _heads(each, after.get_submodule(heads))
        except torch.linalg.LinAlgError as error:
            raise UserError(
                f"{where}: {name}: its projection to keys has no inverse in float32: keys do not tell values"
            ) from error
        weights = {key: value for key, value in weights.items() if not key.startswith(f"{heads}.")}
        weights |= {f"{heads}.{key}": value for key, value in own.items()}
        condition = max(condition, its)
    after.load_state_dict(weights, assign=True)
    return Converted(after.train(model.training), new, [part for part in PARTS if part in found], condition)


def convert_bundle(
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    change: Mapping[str, Any],
    parts: Sequence[str] | None = None,
) -> tuple[nn.Module, Converted]:
    """`convert` of the model in any bundle to a bundle `out`; returns the model before, and what came of it."""
    config = read_config(folder, ())
    key = next((key for key in MODEL_KEYS if isinstance(config.get(key), dict)), None)
    if key is None:
        raise UserError(f"{Path(folder) / CONFIG}: expected a key {' or '.join(f'`{key}`' for key in MODEL_KEYS)}")
    model, tokenizer = read_model(folder, config, key, nn.Module)
    converted = convert(model.eval(), config[key], change, parts, f"{Path(folder) / CONFIG}: {key}")
    kept = {name: value for name, value in config.items() if name != "s2s_version"}
    with replacing(out) as beside:
        write_folder(beside, {**kept, key: converted.config}, converted.model, tokenizer)
    return model, converted


def _part(name: str, attention: Attention) -> str | None:
    if ".surface." in name:  # that of surface fusion has no config
        return None
    if attention.over_memory:
        return "cross"
    return "encoder" if name.startswith("encoder.") else "self"


def _check_multi_head(where: str, heads: MultiHead) -> None:
    if type(heads) is MultiHead and heads.kv_heads == heads.num_heads:
        return
    kind = f"{heads.kv_heads} heads of keys for {heads.num_heads}" if type(heads) is MultiHead else type(heads).__name__
    raise UserError(f"{where} is no multi-head attention any more ({kind}); convert the model that it was made of")


def _heads(attention: Attention, new: nn.Module) -> tuple[dict[str, Tensor], float]:
    """The tensors of new heads, made of those of an attention, and the condition number of what was inverted."""
    if isinstance(new, KeysOnly):  # scores of relative positions are of queries that are not turned
        return keys_only(attention.heads, turned=not isinstance(attention.scheme, Relative))
    tensors = dict(attention.heads.state_dict())
    if isinstance(new, MultiHead):
        for key in ("key.weight", "key.bias", "value.weight", "value.bias"):
            tensors[key] = grouped(tensors[key], new.kv_heads, new.head_dim)
    return tensors, 1.0


def grouped(weight: Tensor, kv_heads: int, head_dim: int) -> Tensor:
    """The key or value projection (H*d,...) of heads, averaged over each of `kv_heads` groups (Ainslie et al. 2023)."""
    heads = weight.detach().double().unflatten(0, (kv_heads, -1, head_dim))
    return heads.mean(dim=1).flatten(0, 1).to(weight.dtype)


def keys_only(heads: MultiHead, turned: bool = True) -> tuple[dict[str, Tensor], float]:
    """The tensors of a `KeysOnly` that attends as these heads do, and the condition number of its W_K.

    With K = x W_K and V = x W_V + b_V, W_KV = W_K⁻¹ W_V and b = b_V; b_K adds the same to all scores of a query, which
    changes no weight that sums to one, and is left out. A trained W_K often has an inverse that float32 does not bear.
    So where heads may be `turned`, each gets orthonormal keys: with W_K = Q R of a head, q·k = (R q)·(Q^T x). Solved in
    float64; raises LinAlgError where W_K has no inverse, or one of which float32 holds no digit.
    """
    dtype, shape = heads.query.weight.dtype, (heads.num_heads, heads.head_dim)
    tensors = {name: tensor.detach().double() for name, tensor in heads.state_dict().items()}  # weights are transposed
    if turned:
        basis, triangle = torch.linalg.qr(tensors["key.weight"].unflatten(0, shape).mT)
        tensors["key.weight"] = basis.mT.flatten(0, 1)
        for name in ("query.weight", "query.bias"):
            tensors[name] = torch.einsum("hij,hj...->hi...", triangle, tensors[name].unflatten(0, shape)).flatten(0, 1)
    condition = float(torch.linalg.cond(tensors["key.weight"]))
    if not condition < 2.0**24:
        raise torch.linalg.LinAlgError
    tensors["key.bias"] = torch.zeros_like(tensors["key.bias"])
    tensors["value.weight"] = torch.linalg.solve(tensors["key.weight"], tensors["value.weight"], left=False)
    tensors["value_bias"] = tensors.pop("value.bias").unflatten(0, shape).unsqueeze(1)
    return {name: tensor.to(dtype) for name, tensor in tensors.items()}, condition
