"""Audio that libsndfile does not read, decoded by the program ffmpeg where it is installed."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import BinaryIO, cast

import numpy as np

from s2s.audio.pipe import wav_sound
from s2s.audio.sound import Sound, cut_short
from s2s.errors import UserError

_ENDS_EARLY = re.compile("ended prematurely|partial file|truncat", re.IGNORECASE)  # said with an exit code of 0


@contextmanager
def decode_with_ffmpeg(path: Path, reason: str) -> Iterator[Sound]:
    """The sound of a file, at its own rate and with its own channels, for as long as ffmpeg runs.

    ffmpeg writes WAV to a pipe, whose header says what it decodes: mixing and resampling are then ours, as for any
    file. `reason` is why libsndfile does not read it.
    Raises UserError where ffmpeg is not installed or does not read the file either, and, after the samples before it,
    where the file is cut short.
    """
    program = shutil.which("ffmpeg")
    if program is None:
        raise UserError(
            f"{path}: cannot be read as audio ({reason}), expected wav, flac, ogg, opus or mp3; where it is of another "
            "kind, install ffmpeg, or convert it to wav; where it is damaged or cut short, fetch it again"
        )
    source = f"file:{path}"  # for names that begin with a hyphen or look like an address
    options = ["-nostdin", "-loglevel", "error", "-i", source, "-vn", "-c:a", "pcm_f32le", "-f", "wav", "-"]
    try:
        process = subprocess.Popen(
            [program, *options], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
    except OSError as error:
        raise UserError(f"{path}: ffmpeg does not start ({program}: {error.strerror}); install it again") from error
    with process:
        output, complaints = cast(BinaryIO, process.stdout), _Complaints(cast(BinaryIO, process.stderr))
        complaints.start()

        def whole(pieces: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
            yield from pieces
            complaints.join()
            if process.wait() or complaints.ends_early:
                raise cut_short(str(path), f"ffmpeg: {complaints.ends_early or complaints.last}")

        try:
            try:
                sound = wav_sound(output, str(path))
            except UserError as error:
                complaints.join()
                raise UserError(
                    f"{path}: cannot be read as audio (libsndfile: {reason}; ffmpeg: {complaints.last}), expected a "
                    "file with an audio track; it is of another kind, damaged or cut short: fetch it again, or leave "
                    "it out"
                ) from error
            yield replace(sound, pieces=whole(sound.pieces))
        finally:
            output.close()
            process.kill()
            complaints.join()


class _Complaints(Thread):
    """Takes what ffmpeg writes to its standard error, which would else fill up and stop it; keeps the last line."""

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__(daemon=True)
        self.stream, self.last, self.ends_early = stream, "it gives no reason", ""

    def run(self) -> None:
        for line in self.stream:
            text = line.decode(errors="replace").strip()
            self.last = text or self.last
            if _ENDS_EARLY.search(text):
                self.ends_early = text
