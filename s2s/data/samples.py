"""The samples of a cut, perturbed as the cut says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from lhotse.audio.backend import AudioBackend, get_current_audio_backend, set_current_audio_backend, soundfile_load
from lhotse.cut import Cut
from torch import Tensor

from s2s.audio.read import read_audio
from s2s.data.cuts import audio_files, origin
from s2s.errors import UserError

LOST = "lost"  # of a cut whose audio is not to be had: why


def load_samples(cut: Cut) -> Tensor:
    """Samples (n,) in float32 of a cut at its own sampling rate, channels averaged.

    Without perturbation these are the samples of `read_audio`. Raises UserError naming the file and the line of the
    corpus that brought it in.
    """
    if (lost := (cut.custom or {}).get(LOST)) is not None:
        raise UserError(f"{origin(cut)}: utterance {cut.id}: {lost}")
    try:
        with _strict_reading():
            samples = cut.load_audio()
    except Exception as error:  # decoders raise what they like
        reason = str(error).split("\n[extra info]")[0].strip() or type(error).__name__
        files = ", ".join(audio_files(cut))
        if files not in reason:
            reason = f"{files}: {reason}"
        raise UserError(f"{origin(cut)}: utterance {cut.id}: {reason}") from error
    return torch.from_numpy(samples[0] if len(samples) == 1 else samples.mean(axis=0))


class _StrictBackend(AudioBackend):
    """Our reading for Lhotse's: its own fills up to half a second that a file lacks, without a word."""

    def read_audio(
        self,
        path_or_fd: Any,
        offset: float = 0.0,
        duration: float | None = None,
        force_opus_sampling_rate: int | None = None,
    ) -> tuple[np.ndarray, int]:
        if isinstance(path_or_fd, str | Path):
            samples, rate = read_audio(path_or_fd, offset=offset, duration=duration)
            if soundfile.info(path_or_fd).channels == 1:
                return samples[None].numpy(), rate
        return soundfile_load(path_or_fd, offset, duration)  # every channel: Lhotse picks


@contextmanager
def _strict_reading() -> Iterator[None]:
    before = get_current_audio_backend()
    set_current_audio_backend(_StrictBackend())
    try:
        yield
    finally:
        set_current_audio_backend(before)
