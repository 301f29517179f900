"""The attention of a model, what of it is kept in a search, and where its config is."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import nn

from s2s.errors import UserError
from s2s.nn.attention.attention import Attention
from s2s.nn.attention.config import changed


def attentions(model: nn.Module) -> dict[str, Attention]:
    """All attention of a model by its name in it, such as "encoder.blocks.0.attention"; UserError where there is none.

    Attention that is not an `Attention`, such as that of an LSTM decoder with attention "additive", is not among them.
    """
    found = {name: each for name, each in model.named_modules() if isinstance(each, Attention)}
    if not found:
        raise UserError(f"{type(model).__name__}: it has no attention heads")
    return found


class CacheBytes(NamedTuple):
    """What a search keeps of each token of a hypothesis, on average, and of each frame of a memory."""

    token: float
    frame: float


def cache_bytes(model: nn.Module, dtype: torch.dtype = torch.float32) -> CacheBytes:
    """What the decoder of a model, or a model that is itself one, keeps for its attention, in numbers of `dtype`.

    Layers of which tokens share entries do so only as far as all layers do: they are in one cache.
    """
    found = [each for each in getattr(model, "decoder", model).modules() if isinstance(each, Attention)]
    own, over = ([each for each in found if each.over_memory == kind] for kind in (False, True))
    token = sum(_numbers(each) for each in own) / (math.gcd(*(each.heads.stride for each in own)) or 1)
    frame = sum(_numbers(each) / (1 if each.strided is None else each.strided.stride) for each in over)
    return CacheBytes(token * dtype.itemsize, frame * dtype.itemsize)


def _numbers(attention: Attention) -> int:
    return sum(heads * dim for heads, dim in attention.cached_shapes())


def options_of(attention: Attention) -> dict[str, Any]:
    """The config of an attention as a mapping of the keys that are not at their default."""
    return {key: getattr(attention.config, key) for key in changed(attention.config)}


def with_options(model: nn.Module, config: Mapping[str, Any], options: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """The config that a model was made of, with other options of some attention, by its name in the model.

    All attention that has its config in one place must be named, in the order of layers. Raises UserError where a
    config does not tell what attention is.
    """
    result = copy.deepcopy(dict(config))
    places: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for name, own in options.items():
        places.setdefault(_place(model, result, name), []).append(own)
    for (path, key), layers in places.items():
        node = result
        for part in path.split(".") if path else ():
            node = node[part]
        node[key] = layers[0] if all(layer == layers[0] for layer in layers) else layers
    return result


def _place(model: nn.Module, config: Mapping[str, Any], name: str) -> tuple[str, str]:
    """Where the config of an attention is: the path to that of the module it is in, and the key there."""
    path: list[str] = []
    for part in name.split("."):
        if not (isinstance(config.get(part), Mapping) and "_target_" in config[part]):
            break
        config = config[part]
        path.append(part)
    owner, attention = model.get_submodule(".".join(path)), model.get_submodule(name)
    parameters = inspect.signature(type(owner).__init__).parameters
    key = "cross_attention" if attention.over_memory else "self_attention"
    key = key if key in parameters else "attention"
    if key not in parameters:
        raise UserError(f"{name}: it cannot be changed: {type(owner).__name__} has no config of attention")
    return ".".join(path), key
