"""Audio files to waveforms; whatever is missing, cut short or no audio is refused by name."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor

from s2s.audio.ffmpeg import decode_with_ffmpeg
from s2s.audio.sound import Sound, cut_short, no_samples
from s2s.errors import UserError

_PIECE = 1 << 15  # samples decoded at once; where decoding stops, so many before may be lost
_UNKNOWN = 1 << 62  # libsndfile's frame count where the header gives none
_MP3_RUN_UP = 1 << 15  # samples libmpg123 gets wrong after a seek, and more: frames borrow bits from those before


@dataclass(frozen=True)
class AudioInfo:
    """What an audio file holds; `num_samples` counts one channel."""

    sampling_rate: int
    num_samples: int
    num_channels: int

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.num_samples / self.sampling_rate


def audio_info(path: str | os.PathLike[str]) -> AudioInfo:
    """Sampling rate, length and channels, from the header alone where the header is to be trusted.

    Raises UserError as `read_audio` does, except for damage that only decoding the samples would show.
    """
    path = Path(path)
    with _open(path) as file:
        if isinstance(file, str):
            with decode_with_ffmpeg(path, file) as sound:
                return AudioInfo(sound.sampling_rate, sum(map(len, sound.pieces)), sound.num_channels)
        if damage := _damage(path, file):
            raise damage
        exact = _length_is_exact(path, file)
        num_samples = file.frames if exact else sum(map(len, _decode(path, file, file.frames)))
        return AudioInfo(file.samplerate, num_samples, file.channels)


def read_audio(
    path: str | os.PathLike[str],
    sampling_rate: int | None = None,
    offset: float = 0.0,
    duration: float | None = None,
    channel: int | None = None,
) -> tuple[Tensor, int]:
    """Samples (n,) in float32, full scale at [-1, 1], of one channel or the mean of all; and their sampling rate.

    Args:
        path: wav, flac, ogg, opus, mp3 or whatever else libsndfile reads; the rest through ffmpeg, where installed.
        sampling_rate: hertz to resample to; None keeps the file's own.
        offset: seconds to skip.
        duration: seconds to read, or up to the end of the file where that comes first; None reads all.
        channel: the one to take, counted from 1; None is the mean of all.

    Lossy decoders and resampling may pass full scale by a little; nothing is clipped.
    Raises UserError for a file that is missing, a folder, empty, cut short, not audio or not in [-1, 1],
    for an offset or a duration outside the file, and for a channel that it lacks.
    """
    path = Path(path)
    if not (offset >= 0 and (duration is None or duration > 0)):
        raise UserError(f"{path}: offset must be >= 0 s and duration > 0 s, got {offset} and {duration}")
    with _sound(path, offset, duration) as sound:
        blocks = list(sound.blocks(sampling_rate, channel=channel))
        samples = torch.cat(blocks) if blocks else torch.zeros(0)
        return samples, sampling_rate or sound.sampling_rate


def read_blocks(
    path: str | os.PathLike[str], sampling_rate: int, block_seconds: float = 30.0, channel: int | None = None
) -> Iterator[Tensor]:
    """The samples that `read_audio` gives, in blocks (n,) of `block_seconds`, the last shorter: in bounded memory.

    Raises UserError as `read_audio` does, where a file is cut short after the samples that could be read.
    """
    with _sound(Path(path)) as sound:
        yield from sound.blocks(sampling_rate, block_seconds, channel)


@contextmanager
def _sound(path: Path, offset: float = 0.0, duration: float | None = None) -> Iterator[Sound]:
    """A file's audio from `offset` seconds on for `duration`, or to its end, while the file is open."""
    with _open(path) as file:
        if isinstance(file, str):
            with decode_with_ffmpeg(path, file) as sound:
                yield replace(sound, pieces=_part(path, sound.pieces, sound.sampling_rate, offset, duration))
        else:
            yield Sound(str(path), file.samplerate, file.channels, _pieces(path, file, offset, duration))


@contextmanager
def _open(path: Path) -> Iterator[soundfile.SoundFile | str]:
    """An open file with samples in it; or, where libsndfile does not read it, the reason."""
    if path.is_dir():
        raise UserError(f"{path}: is a folder, expected an audio file; name a file in it")
    if not path.exists():
        raise UserError(f"{path}: no such audio file; check the path, relative paths start at {Path.cwd()}")
    if path.stat().st_size == 0:
        raise UserError(f"{path}: is empty (0 bytes); fetch or record it again")
    with ExitStack() as opened:
        try:
            file = opened.enter_context(_Straight(path))
            if not _length_is_exact(path, file):
                file = opened.enter_context(_Straight(opened.enter_context(_Longer(path))))
        except TypeError:  # a headerless format such as .raw
            file = "it has no header"
        except soundfile.SoundFileError as error:
            file = str(getattr(error, "error_string", error)).strip().rstrip(".")
        else:
            _check_length(path, file)
        yield file


def _check_length(path: Path, file: soundfile.SoundFile) -> None:
    if file.frames == 0:
        raise _damage(path, file) or no_samples(str(path))
    if file.frames >= _UNKNOWN:
        raise UserError(
            f"{path}: its header does not say how long it is, as when written to a pipe; "
            "write it again to a file (ffmpeg -i INPUT output.flac)"
        )


def _pieces(path: Path, file: soundfile.SoundFile, offset: float, duration: float | None) -> Iterator[np.ndarray]:
    """Samples (n,C) of a file between two times; whatever shows that it is not whole is raised after them."""
    rate, total = file.samplerate, file.frames
    if not _length_is_exact(path, file):
        yield from _part(path, _decode(path, file, total), rate, offset, duration)
        return
    start, damage = round(offset * rate), _damage(path, file)
    if start >= total:
        raise damage or _past_the_end(path, offset, total / rate)
    count = total - start if duration is None else min(max(1, round(duration * rate)), total - start)
    run_up = min(start, _MP3_RUN_UP) if file.format == "MP3" else 0
    if start > run_up:
        try:
            file.seek(start - run_up)
        except soundfile.SoundFileError as error:
            raise cut_short(str(path), f"no sample can be read at {offset} s") from error
    left = count
    for piece in _between(_decode(path, file, run_up + count), run_up, count):
        left -= len(piece)
        yield piece
    if damage:
        raise damage
    if left:
        raise cut_short(str(path), f"{count - left} samples where its header promises {count}")


def _decode(path: Path, file: soundfile.SoundFile, count: int) -> Iterator[np.ndarray]:
    """At most `count` samples (n,C) from where the file stands; fewer where it ends before."""
    left = count
    while left:
        try:
            piece = file.read(min(left, _PIECE), dtype="float32", always_2d=True)
        except soundfile.SoundFileError as error:
            raise cut_short(str(path), f"decoding stops after {count - left} of {count} samples") from error
        if len(piece) == 0:
            return
        yield piece
        left -= len(piece)


def _part(
    path: Path, pieces: Iterator[np.ndarray], rate: int, offset: float, duration: float | None
) -> Iterator[np.ndarray]:
    """What lies between two times of audio whose length only decoding it all shows."""
    start, heard, found = round(offset * rate), 0, False
    count = None if duration is None else max(1, round(duration * rate))

    def counted() -> Iterator[np.ndarray]:
        nonlocal heard
        for piece in pieces:
            heard += len(piece)
            yield piece

    for piece in _between(counted(), start, count):
        found = True
        yield piece
    if start and not found:
        raise _past_the_end(path, offset, heard / rate)


def _between(pieces: Iterator[np.ndarray], start: int, count: int | None) -> Iterator[np.ndarray]:
    """`count` samples (None: all) from number `start` on; pieces past them are not asked for."""
    for piece in pieces:
        kept = piece[start:][:count]
        start = max(0, start - len(piece))
        if len(kept):
            yield kept
        if count is not None:
            count -= len(kept)
            if count == 0:
                return


def _past_the_end(path: Path, offset: float, seconds: float) -> UserError:
    return UserError(f"{path}: offset {offset} s lies past its end ({seconds:.3f} s); correct the segment")


def _damage(path: Path, file: soundfile.SoundFile) -> UserError | None:
    """What libsndfile mends in silence: a WAV, AIFF or AU shorter than its header says, an Ogg cut in a page."""
    for promised, held in re.findall(r"^ *(?:data|SSND|Data Size) *: (\d+) \(should be (\d+)\)", file.extra_info, re.M):
        if int(held) < int(promised) < 0x7FFFF000:  # sox, ffmpeg and Kaldi write more than this to a pipe: unknown
            return cut_short(str(path), f"{held} bytes of samples where its header promises {promised}")
    if file.format == "OGG" and not _ends_with_a_whole_page(path):
        return cut_short(str(path), "its last Ogg page is not whole")
    return None


def _ends_with_a_whole_page(path: Path) -> bool:
    """Whether the last Ogg page (RFC 3533: 27 bytes, segment table, segments) ends inside the file."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 27 - 255 - 255 * 255))  # the longest page
        tail = file.read()
    page = tail[max(0, tail.rfind(b"OggS\0")) :]
    table = page[27 : 27 + page[26]] if len(page) > 26 else b""
    return len(page) > 26 and len(table) == page[26] and len(page) >= 27 + len(table) + sum(table)


def _length_is_exact(path: Path, file: soundfile.SoundFile) -> bool:
    """Whether `file.frames` is known: of an MP3 without Xing, Info or VBRI tag it is a guess by the first bit rate."""
    if file.format != "MP3":
        return True
    with path.open("rb") as raw:
        start = raw.read(10)
        if start[:3] == b"ID3":  # skip the ID3v2 tag, its size in four 7-bit bytes
            raw.seek(10 + sum(byte << shift for byte, shift in zip(start[6:10], (21, 14, 7, 0), strict=True)))
        else:
            raw.seek(0)
        frame = raw.read(256)
    return any(tag in frame for tag in (b"Xing", b"Info", b"VBRI"))


class _Straight(soundfile.SoundFile):
    """A file to read from one end to the other, `seek` apart.

    soundfile seeks, after every read, to where it already is, as long as it takes a file for seekable; libmpg123 then
    lacks the bits that an MP3's frame borrows from those before, and leaves out a fifth of a second.
    """

    def seekable(self) -> bool:
        return False


class _Longer(io.FileIO):
    """A file that says it is longer than it is: libsndfile guesses an MP3's length from that, and then stops there.

    64 covers the span of an MP3's bit rates (8 to 320 kbit/s), so that no guess by the first frame's falls short.
    """

    _asked = False

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._asked = (offset, whence) == (0, os.SEEK_END)
        return super().seek(offset, whence)

    def tell(self) -> int:
        return super().tell() * (64 if self._asked else 1)
