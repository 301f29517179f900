"""Audio that comes through a pipe: WAV of known or unknown length, or raw PCM."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from torch import Tensor

from s2s.audio.pcm import ENCODINGS
from s2s.audio.sound import Sound, cut_short
from s2s.errors import UserError, nearest

_STDIN = "standard input"
_PIECE = 1 << 16  # bytes read at once
_UNKNOWN = 0x7FFFF000  # sox, ffmpeg and Kaldi write this or more to a pipe, as the size of the samples
_EXTENSIBLE = 0xFFFE  # a WAVE format tag: the encoding's own stands further on
_WAV_ENCODINGS = {  # by WAVE format tag and bytes per sample
    (1, 1): "u8",
    (1, 2): "s16le",
    (1, 3): "s24le",
    (1, 4): "s32le",
    (3, 4): "f32le",
    (3, 8): "f64le",
    (6, 1): "alaw",
    (7, 1): "mulaw",
}


@dataclass(frozen=True)
class RawFormat:
    """How samples without a header are to be read; UserError where a value is out of its range.

    Attributes:
        sampling_rate: hertz.
        encoding: one of `s2s.audio.pcm.ENCODINGS`.
        channels: interleaved.
    """

    sampling_rate: int = 16000
    encoding: str = "s16le"
    channels: int = 1

    def __post_init__(self) -> None:
        if self.encoding not in ENCODINGS:
            hint = nearest(self.encoding, ENCODINGS)
            raise UserError(f"raw: encoding is '{self.encoding}', expected one of {', '.join(ENCODINGS)}.{hint}")
        for name in ("sampling_rate", "channels"):
            if getattr(self, name) < 1:
                raise UserError(f"raw: {name} is {getattr(self, name)}, expected 1 or more")


def parse_raw_format(spec: str) -> RawFormat:
    """`ENCODING[:RATE[:CHANNELS]]`, such as s16le:8000; what is left out is as in `RawFormat`. Raises UserError."""
    encoding, *numbers = spec.split(":")
    if len(numbers) > 2 or not all(number.isascii() and number.isdecimal() for number in numbers):
        raise UserError(f"raw: '{spec}' is not ENCODING[:RATE[:CHANNELS]]; an example: s16le:16000:1")
    return RawFormat(encoding=encoding, **dict(zip(("sampling_rate", "channels"), map(int, numbers), strict=False)))


def read_stdin(
    stream: BinaryIO,
    sampling_rate: int,
    raw: RawFormat | None = None,
    block_seconds: float = 30.0,
    channel: int | None = None,
) -> Iterator[Tensor]:
    """The samples, as `read_blocks` gives a file's, of a WAV or, where `raw` says how to read it, of raw PCM.

    Blocks (n,) in float32 at `sampling_rate` hertz, each `block_seconds`, the last shorter, each as soon as its samples
    have come; in bounded memory. `channel` counts from 1; None is the mean of all.
    Raises UserError for a stream that is empty, neither WAV nor said to be raw, in an encoding not in `ENCODINGS` or,
    after the samples that came, shorter than its header says.
    """
    sound = wav_sound(stream, _STDIN) if raw is None else _sound(stream, raw, _STDIN, None)
    yield from sound.blocks(sampling_rate, block_seconds, channel)


def wav_sound(stream: BinaryIO, name: str) -> Sound:
    """The sound of a WAV, read up to its first sample; `name` is what messages call it."""
    start = _read(stream, 12)
    if not start:
        raise UserError(f"{name}: is empty (0 bytes), expected audio; check the command that writes to the pipe")
    if not (start[:4] == b"RIFF" and start[8:] == b"WAVE"):
        raise UserError(
            f"{name}: is not WAV (it starts with {start!r}); for samples without a header say how to read them "
            "(--raw s16le:16000), for any other format give the file's name"
        )
    form = None
    while True:
        head = _read(stream, 8)
        kind, size = head[:4], int.from_bytes(head[4:], "little")
        if kind == b"data":
            break
        content = _read(stream, min(size, 40)) if kind == b"fmt " else b""
        if len(head) < 8 or _skip(stream, size + size % 2 - len(content)):  # chunks start at even places
            raise cut_short(name, "it ends within its header")
        if kind == b"fmt ":
            form = _wav_format(content, name)
    if form is None:
        raise cut_short(name, "its header does not say how its samples are written")
    return _sound(stream, form, name, size if 0 < size < _UNKNOWN else None)


def _wav_format(content: bytes, name: str) -> RawFormat:
    """What a `fmt ` chunk says."""
    tag, channels, rate, _, frame, bits = struct.unpack("<HHIIHH", content[:16].ljust(16, b"\0"))
    if not (channels and rate and frame):
        raise cut_short(name, f"its header says {channels} channels at {rate} Hz in {frame} bytes")
    if tag == _EXTENSIBLE:
        tag = int.from_bytes(content[24:26], "little")
    encoding = _WAV_ENCODINGS.get((tag, frame / channels))
    if encoding is None:
        raise UserError(
            f"{name}: its samples are of WAVE format {tag} with {bits} bits, expected integers of 8 to 32 bits, "
            "floating point, mu-law or A-law; convert it (ffmpeg -i INPUT -c:a pcm_s16le output.wav)"
        )
    return RawFormat(rate, encoding, channels)


def _read(stream: BinaryIO, size: int) -> bytes:
    """The next `size` bytes; fewer only where the stream ends."""
    found = b""
    while len(found) < size and (data := stream.read(size - len(found))):
        found += data
    return found


def _skip(stream: BinaryIO, size: int) -> int:
    """Leave out the next `size` bytes; how many of them were lacking."""
    while size > 0 and (data := stream.read(min(size, _PIECE))):
        size -= len(data)
    return size


def _sound(stream: BinaryIO, form: RawFormat, name: str, size: int | None) -> Sound:
    """The sound of the `size` bytes (None: all) that come next."""

    def pieces() -> Iterator[np.ndarray]:
        width, decode = ENCODINGS[form.encoding]
        read = getattr(stream, "read1", stream.read)  # what has come, not waiting for more
        heard, rest = 0, b""
        while data := read(_PIECE if size is None else min(_PIECE, size - heard)):
            heard += len(data)
            data = rest + data
            whole = len(data) - len(data) % (width * form.channels)
            rest = data[whole:]
            yield decode(data[:whole]).reshape(-1, form.channels)
        if size is not None and heard < size:
            raise cut_short(name, f"{heard} bytes of samples where its header promises {size}")

    return Sound(name, form.sampling_rate, form.channels, pieces())
