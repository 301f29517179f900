"""The features a model hears, by the kind that its config names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from s2s.audio.fbank import Fbank, FbankConfig
from s2s.audio.log_mel import LogMel, LogMelConfig
from s2s.errors import UserError, nearest

Features = Fbank | LogMel

KINDS: dict[str, tuple[type[Fbank] | type[LogMel], type[FbankConfig] | type[LogMelConfig]]] = {
    "fbank": (Fbank, FbankConfig),
    "log_mel": (LogMel, LogMelConfig),
}


def features_config(features: Features) -> dict[str, Any]:
    """The config that `build_features` makes equal features from."""
    kind = next(name for name, (module, _) in KINDS.items() if isinstance(features, module))
    return {"kind": kind, **asdict(features.config)}


def build_features(config: Mapping[str, Any], where: str = "features") -> Features:
    """Features in evaluation mode (in training they may dither), from their `kind` and its options.

    Without a kind it is "fbank". Raises UserError, naming the key under `where`, for one that does not exist or a value
    of the wrong type.
    """
    options = dict(config)
    kind = options.pop("kind", "fbank")
    if not isinstance(kind, str) or kind not in KINDS:
        raise UserError(f"{where}.kind: '{kind}', expected {' or '.join(KINDS)}.{nearest(str(kind), KINDS)}")
    module, config_class = KINDS[kind]
    known = config_class.__dataclass_fields__
    for key, value in options.items():
        if key not in known:
            raise UserError(f"{where}.{key}: no such key.{nearest(str(key), known)}")
        expected = type(known[key].default)
        if type(value) is not expected and not (expected is float and type(value) is int):
            raise UserError(f"{where}.{key}: expected {expected.__name__}, got {value!r}")
    try:
        return module(config_class(**options)).eval()  # type: ignore[arg-type]
    except (ValueError, OverflowError) as error:
        raise UserError(f"{where}: expected finite numbers ({error}); restore the file") from error
