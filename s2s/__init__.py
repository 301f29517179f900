"""s2s: speech recognition, speech translation and text translation on one encoder-decoder core."""

from importlib.metadata import PackageNotFoundError, version
from typing import Any

try:
    __version__ = version("s2s")
except PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0.0.0"

__all__ = ["__version__", "load"]


def __getattr__(name: str) -> Any:
    if name == "load":  # torch is imported with the first model, not with the package
        from s2s.api import load

        return load
    raise AttributeError(f"module 's2s' has no attribute '{name}'")
