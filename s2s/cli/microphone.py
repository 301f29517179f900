"""Speech from the microphone, by the package sounddevice where it is installed."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from s2s.errors import UserError
from s2s.transcription.recording import Recording


def microphone(block_seconds: float) -> Recording:
    """The default microphone, until it is interrupted; UserError where there is none, or no package to hear it."""
    try:
        import sounddevice
    except (ImportError, OSError) as error:  # OSError: its library PortAudio is missing
        raise UserError(
            f"the microphone needs the package sounddevice ({error}); pip install 's2s[microphone]', or name a file"
        ) from error

    def blocks(rate: int) -> Iterator[Tensor]:
        waiting: queue.SimpleQueue[Tensor] = queue.SimpleQueue()

        def heard(data: Any, frames: int, when: Any, status: Any) -> None:
            waiting.put(torch.from_numpy(data[:, 0].copy()))

        try:
            with sounddevice.InputStream(
                samplerate=rate, channels=1, dtype="float32", blocksize=round(rate * block_seconds), callback=heard
            ):
                while True:
                    yield waiting.get()
        except sounddevice.PortAudioError as error:
            raise UserError(f"the microphone cannot be heard: {error}; name a file, or pipe audio in with -") from error

    return Recording("microphone", blocks)
