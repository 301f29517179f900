"""Independent implementations to compare with."""

from __future__ import annotations

from types import ModuleType

import pytest

from s2s.optional import torchaudio


def transformers() -> ModuleType:
    """Hugging Face's library, or the test skips.

    It imports torchaudio wherever that is installed, and fails where it does not load; then it is told there is none.
    """
    module = pytest.importorskip("transformers")
    if torchaudio()[0] is None:
        module.utils.is_torchaudio_available = lambda: False
    return module
