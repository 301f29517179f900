"""s2s: speech recognition, speech translation and text translation on one encoder-decoder core."""

from typing import Any

from s2s.version import __version__

__all__ = ["__version__", "load", "load_stream", "load_translator"]


def __getattr__(name: str) -> Any:
    if name in __all__:  # torch is imported with the first model, not with the package
        from s2s import api

        return getattr(api, name)
    raise AttributeError(f"module 's2s' has no attribute '{name}'")
