"""How a stream is to be searched, committed to and cut into segments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import yaml

from s2s.decoding.config import DecodingConfig, load_decoding_config
from s2s.decoding.streaming.endpoint import EndpointConfig
from s2s.errors import UserError, nearest

GROUPS = ("decoding", "policy", "endpoint")


@dataclass(frozen=True)
class StreamSettings:
    """Settings of a stream; None: as the model has it.

    Attributes:
        decoding: how to search.
        policy: when to commit to words, of a model that hears everything anew.
        policy_options: of the policy.
        endpoint: when a segment ends.
    """

    decoding: DecodingConfig | None = None
    policy: str | None = None
    policy_options: Mapping[str, Any] = field(default_factory=dict)
    endpoint: EndpointConfig = field(default_factory=EndpointConfig)

    @classmethod
    def of(cls, decoding: str | None, policy: str | None, overrides: Sequence[str]) -> StreamSettings:
        """From the names of a decoding and a policy, and overrides such as "endpoint.end_silence=0.5".

        Raises UserError naming the key that is not known, or whose value is out of range.
        """
        given: dict[str, dict[str, Any]] = {group: {} for group in GROUPS}
        for override in overrides:
            key, equals, value = override.partition("=")
            group, dot, name = key.partition(".")
            if not equals or not dot or group not in given:
                raise UserError(
                    f"'{override}': expected KEY=VALUE, where KEY begins with {', '.join(f'{g}.' for g in GROUPS)}"
                    f"{nearest(group, GROUPS)}"
                )
            given[group][name] = value
        chosen = [f"decoding={decoding}"] if decoding else []
        chosen += [f"decoding.{name}={value}" for name, value in given["decoding"].items()]
        return cls(
            load_decoding_config(chosen) if chosen else None,
            policy,
            {name: _value(f"policy.{name}", value) for name, value in given["policy"].items()},
            _endpoint({name: _value(f"endpoint.{name}", value) for name, value in given["endpoint"].items()}),
        )


def _endpoint(given: Mapping[str, Any]) -> EndpointConfig:
    known = [each.name for each in fields(EndpointConfig)]
    for name, value in given.items():
        if name not in known:
            raise UserError(f"endpoint.{name}: no such key; expected {', '.join(known)}.{nearest(name, known)}")
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise UserError(f"endpoint.{name}={value}: expected seconds, or null for never")
    return EndpointConfig(**given)


def _value(key: str, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"{key}={text}: not a value: {str(error).splitlines()[0]}") from error
