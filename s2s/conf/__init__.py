"""Hydra configs: the YAML files here, and one function that puts them together with overrides."""

from __future__ import annotations

import contextlib
import re
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s2s.errors import UserError, nearest

if TYPE_CHECKING:
    from omegaconf import DictConfig

HERE = Path(__file__).parent


def compose(name: str, schema: type, overrides: Sequence[str] = (), config_dir: str | Path | None = None) -> DictConfig:
    """The config `name` from `config_dir` (default: those s2s ships), typed by the dataclass `schema`, with overrides.

    A config in `config_dir` may start from any that s2s ships (`defaults: [train, _self_]`), and those s2s ships may
    take parts from there (`model=mine` for model/mine.yaml). A key below a plain mapping of the schema may be new: what
    reads the mapping knows its keys (`model.encoder.attention.kind=relaxed`). Raises UserError that names the key and
    the nearest one that exists.
    """
    import yaml
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.config_store import ConfigStore
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    own = Path(config_dir).resolve() if config_dir else HERE
    if not own.is_dir():
        raise UserError(f"--config-dir {config_dir}: no such folder")
    shipped = (HERE / f"{name}.yaml").is_file() and not (own / f"{name}.yaml").is_file()
    folder = HERE if shipped else own
    search = f"hydra.searchpath=[file://{own},pkg://s2s.conf]"
    for override in overrides:
        if "=" not in override and not override.startswith("~"):
            raise UserError(f"'{override}': expected an override of the form key=value")
    free = _free(schema)
    overrides = [f"++{override}" if override.startswith(free) else override for override in overrides]
    ConfigStore.instance().store(name="schema", node=writable(schema), provider="s2s")
    GlobalHydra.instance().clear()
    with initialize_config_dir(version_base="1.3", config_dir=str(folder)):
        try:
            return hydra_compose(name, overrides=[search, *overrides])
        except yaml.YAMLError as error:
            where = getattr(error, "problem_mark", None)
            place = f"{where.name}:{where.line + 1}" if where else f"{folder / name}.yaml"
            raise UserError(f"{place}: not readable as YAML: {getattr(error, 'problem', error)}") from error
        except (HydraException, OmegaConfBaseException) as error:
            keys = _keys(writable(schema))
            with contextlib.suppress(HydraException, OmegaConfBaseException):  # the config itself may be broken
                keys = _keys(hydra_compose(name, overrides=[search]))
            raise UserError(_explain(name, error, keys, folder)) from error


def _free(schema: type) -> tuple[str, ...]:
    """What overrides of keys below the schema's plain mappings begin with."""
    return tuple(f"{key}." for key, kind in typing.get_type_hints(schema).items() if typing.get_origin(kind) is dict)


def writable(schema: type) -> DictConfig:
    """The schema as a config; OmegaConf takes a frozen dataclass for a config that no override may change."""
    from omegaconf import DictConfig, OmegaConf

    def thaw(config: DictConfig) -> None:
        config._set_flag("readonly", None)
        for key in map(str, config):
            node = config._get_node(key)
            if isinstance(node, DictConfig) and not node._is_none() and not node._is_missing():
                thaw(node)

    config: DictConfig = OmegaConf.structured(schema)
    thaw(config)
    return config


def to_dataclass(config: DictConfig) -> Any:
    """The dataclass a composed config is typed by; UserError names a value that is missing or of the wrong type."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        return OmegaConf.to_object(config)
    except OmegaConfBaseException as error:
        raise UserError(_one_line(error)) from error


def _keys(config: DictConfig, prefix: str = "") -> list[str]:
    from omegaconf import DictConfig, OmegaConf

    found = []
    for key in map(str, config):
        found.append(f"{prefix}{key}")
        if not OmegaConf.is_missing(config, key) and not OmegaConf.is_interpolation(config, key):
            value = config[key]
            if isinstance(value, DictConfig):
                found += _keys(value, f"{prefix}{key}.")
    return found


def _one_line(error: Exception) -> str:
    key = getattr(error, "full_key", None)
    text = str(error).split("\n")[0]
    return f"{key}: {text}" if key and key not in text else text


def _explain(name: str, error: Exception, keys: list[str], folder: Path) -> str:
    text = str(error)
    unknown = re.search(r"Could not override '([^']+)'", text) or re.search(r"not in '\w+'\s+full_key: (\S+)", text)
    if unknown and unknown.group(1) not in keys:
        key = unknown.group(1)
        parent, _, leaf = key.rpartition(".")
        siblings = [k for k in keys if k.rpartition(".")[0] == parent]
        by_leaf = nearest(leaf, [k.rpartition(".")[2] for k in siblings]) if siblings else ""
        hint = f" Did you mean '{parent + '.' if parent else ''}{by_leaf.split(chr(39))[1]}'?" if by_leaf else ""
        return f"{key}: no such key in the config.{hint or nearest(key, keys)}"
    if "Cannot find primary config" in text:
        there = sorted(p.stem for p in folder.glob("*.yaml"))
        return f"--config-name {name}: no {name}.yaml in {folder}.{nearest(name, there)} There are: {', '.join(there)}"
    cause = error.__cause__
    detail = "; ".join(line.strip() for line in text.splitlines() if line.strip())
    return detail if cause is None or str(cause).split("\n")[0] in detail else f"{detail}: {_one_line(cause)}"  # type: ignore[arg-type]
