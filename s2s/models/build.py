"""Modules from a config: `_target_` names a class of s2s, the other keys are its constructor arguments."""

from __future__ import annotations

import importlib
import inspect
import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from s2s.errors import UserError, nearest


def _module_class(name: object, where: str) -> type[nn.Module]:
    """The class that `name` ("s2s.models.hybrid.HybridModel") names; nothing outside s2s is ever imported."""
    expected = "expected the full name of a module class of s2s, such as s2s.models.conformer.ConformerEncoder"
    if not isinstance(name, str) or not name.startswith("s2s."):
        raise UserError(f"{where}._target_: '{name}' is not inside s2s; {expected}")
    path, _, class_name = name.rpartition(".")
    try:
        module = importlib.import_module(path)
    except ImportError as error:
        raise UserError(f"{where}._target_: no module '{path}' ({error}); {expected}") from error
    found = getattr(module, class_name, None)
    own = [k for k, v in vars(module).items() if inspect.isclass(v) and v.__module__ == path]
    if class_name not in own or not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise UserError(f"{where}._target_: no class '{class_name}' in {path}.{nearest(class_name, own)}")
    return found


def _check(key: str, value: object, expected: Any) -> None:
    """A number for a number and a list for a list: a wrong kind of value is named here, not deep inside a layer."""
    kinds = {int: (int,), float: (int, float), bool: (bool,), str: (str,)}.get(expected)
    if kinds and (not isinstance(value, kinds) or (isinstance(value, bool) and expected is not bool)):
        raise UserError(f"{key}: expected {expected.__name__}, got {value!r}")


def _argument(value: Any, where: str, expected: Any) -> Any:
    """A constructor argument: a module, a config dataclass (or a list of them) where one is expected, or as it is."""
    plain = next((kind for kind in _kinds(expected) if is_dataclass(kind)), None)
    if plain is not None and isinstance(value, Mapping):
        return _dataclass(plain, value, where)
    if plain is not None and isinstance(value, Sequence) and not isinstance(value, str) and _takes_several(expected):
        return [_argument(each, f"{where}.{i}", plain) for i, each in enumerate(value)]
    if plain is not None and value is not None:
        raise UserError(f"{where}: expected a mapping of keys such as {next(iter(fields(plain))).name}, got {value!r}")
    _check(where, value, expected)
    return build(value, where) if isinstance(value, Mapping) else value


def _kinds(expected: Any) -> list[Any]:
    """All types that a type hint is made of."""
    inner = typing.get_args(expected)
    return [kind for each in inner for kind in _kinds(each)] if inner else [expected]


def _takes_several(expected: Any) -> bool:
    """Whether a type hint has room for a list."""
    return any(typing.get_origin(each) is Sequence for each in (expected, *typing.get_args(expected)))


def _dataclass(kind: Any, config: Mapping[str, Any], where: str) -> Any:
    types = typing.get_type_hints(kind)
    for key, value in config.items():
        if key not in types:
            raise UserError(f"{where}.{key}: {kind.__name__} has no such key.{nearest(key, types)}")
        kinds = _kinds(types[key])
        several = _takes_several(types[key])
        if several and (isinstance(value, str) or not isinstance(value, Sequence)):
            raise UserError(f"{where}.{key}: expected a list, got {value!r}")
        for each in value if several else [value]:
            if each is not None or type(None) not in kinds:
                _check(f"{where}.{key}", each, kinds[0])
    required = [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]
    if missing := [name for name in required if name not in config]:
        raise UserError(f"{where}: {kind.__name__} needs {', '.join(missing)}")
    try:
        return kind(**config)
    except UserError as error:  # it begins with the key
        raise UserError(f"{where}.{error}") from error


def build(config: Mapping[str, Any], where: str = "model") -> nn.Module:
    """The module that `config` describes, nested `_target_`s first; `where` is the key that errors name.

    Raises UserError for a class outside s2s, an unknown or missing argument, or a value of the wrong type.
    """
    if "_target_" not in config:
        raise UserError(f"{where}: expected a key `_target_` naming a class of s2s")
    module_class = _module_class(config["_target_"], where)
    parameters = {k: p for k, p in inspect.signature(module_class.__init__).parameters.items() if k != "self"}
    types = typing.get_type_hints(module_class.__init__)
    arguments: dict[str, Any] = {}
    for key, value in config.items():
        if key == "_target_":
            continue
        if key not in parameters:
            raise UserError(f"{where}.{key}: {module_class.__name__} has no such key.{nearest(key, parameters)}")
        arguments[key] = _argument(value, f"{where}.{key}", types.get(key))
    missing = [k for k, p in parameters.items() if p.default is inspect.Parameter.empty and k not in arguments]
    if missing:
        raise UserError(f"{where}: {module_class.__name__} needs {', '.join(missing)}")
    return module_class(**arguments)


class _Unset(TorchFunctionMode):
    """Functions of torch.nn.init leave tensors as they are."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)


def build_empty(config: Mapping[str, Any], where: str) -> nn.Module:
    """As `build`, with parameters that are on no device and have no values, for weights to take their place.

    Nothing is allocated and nothing is drawn: on the meta device that would load torch's compiler, for two seconds.
    """
    with torch.device("meta"), _Unset():
        return build(config, where)
