from __future__ import annotations

import importlib
from typing import Any

import pytest

from s2s import optional


def test_torchaudio_loads_or_the_reason_and_the_pair_are_named() -> None:
    module, line = optional.torchaudio()
    if module is None:
        assert "s2s uses its own kernels" in line
    else:
        assert line == module.__version__


@pytest.mark.parametrize("error", [ImportError("no such symbol"), OSError("could not load"), RuntimeError("version")])
def test_however_loading_fails_s2s_goes_on_without(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(name: str) -> Any:
        raise error

    monkeypatch.setattr(importlib, "import_module", fail)
    optional.torchaudio.cache_clear()
    module, line = optional.torchaudio()
    optional.torchaudio.cache_clear()
    assert module is None
    assert str(error) in line
    assert "torch==" in line
