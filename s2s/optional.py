"""Libraries that may be absent or fail to load: one guard, one explanation."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from types import ModuleType

from s2s.errors import UserError


@lru_cache
def torchaudio() -> tuple[ModuleType | None, str]:
    """The torchaudio module, or None where it does not load; and one line saying which and why."""
    try:
        module = importlib.import_module("torchaudio")
    except (ImportError, OSError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        try:
            ours = version("torchaudio")
        except PackageNotFoundError:
            return None, "not installed; s2s uses its own kernels (pip install torchaudio)"
        pair = ".".join(ours.split("+")[0].split(".")[:2])
        return None, (
            f"{ours} does not load beside torch {version('torch')} ({reason}); s2s uses its own kernels. "
            f"A pair that loads: torch=={pair}.* torchaudio=={pair}.*"
        )
    return module, f"{module.__version__}"


def require(what: str, modules: Iterable[str], extra: str) -> None:
    """Raise UserError where `what` needs modules that are not installed; `extra` is what of s2s installs them."""
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise UserError(f"{what} needs {', '.join(missing)}, not installed here; pip install 's2s[{extra}]'")
