"""Real speech for the audio room's tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import Tensor

from s2s.audio.read import read_audio


@pytest.fixture(scope="session")
def speech(data_root: Path) -> list[Tensor]:
    """A few utterances at 16 kHz, of several speakers and lengths."""
    names = ("LJ001-0002", "61-70968-0000", "pocketsphinx-librivox-0880", "picovoice-cheetah-test_it_norm")
    return [read_audio(data_root / "samples" / f"{name}.flac")[0] for name in names]


@pytest.fixture(scope="session")
def digits(data_root: Path) -> list[Tensor]:
    """A digit from each of six speakers, at 8 kHz."""
    speakers = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
    return [read_audio(data_root / "fsdd" / "recordings" / f"{i}_{name}_0.flac")[0] for i, name in enumerate(speakers)]
