"""Audio files to waveforms; whatever is missing, cut short or no audio is refused by name."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor

from s2s.audio.resample import resample
from s2s.errors import UserError

_BLOCK = 1 << 20  # samples decoded at once: a wrong header cannot make us allocate what it claims
_UNKNOWN = 1 << 62  # libsndfile's frame count where the header gives none
_MP3_RUN_UP = 1 << 15  # samples libmpg123 gets wrong after a seek, and more: frames borrow bits from those before
_LOUDEST = 16.0  # float files may pass full scale a little; 24 dB over it is another scale


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
        num_samples = file.frames if _length_is_exact(path, file) else len(_decode(path, file, file.frames))
        return AudioInfo(file.samplerate, num_samples, file.channels)


def read_audio(
    path: str | os.PathLike[str], sampling_rate: int | None = None, offset: float = 0.0, duration: float | None = None
) -> tuple[Tensor, int]:
    """Samples (n,) in float32, full scale at [-1, 1], channels averaged; and their sampling rate.

    Args:
        path: wav, flac, ogg, opus, mp3 or whatever else libsndfile reads.
        sampling_rate: hertz to resample to; None keeps the file's own.
        offset: seconds to skip.
        duration: seconds to read, or up to the end of the file where that comes first; None reads all.

    Lossy decoders and resampling may pass full scale by a little; nothing is clipped.
    Raises UserError for a file that is missing, a folder, empty, cut short, not audio or not in [-1, 1],
    and for an offset or a duration outside the file.
    """
    path = Path(path)
    if not (offset >= 0 and (duration is None or duration > 0)):
        raise UserError(f"{path}: offset must be >= 0 s and duration > 0 s, got {offset} and {duration}")
    with _open(path) as file:
        rate, total = file.samplerate, file.frames
        start = round(offset * rate)
        if start >= total:
            raise UserError(f"{path}: offset {offset} s lies past its end ({total / rate:.3f} s); correct the segment")
        count = total - start if duration is None else min(max(1, round(duration * rate)), total - start)
        exact = _length_is_exact(path, file)
        run_up = min(start, _MP3_RUN_UP if exact else start) if file.format == "MP3" else 0
        if start > run_up:
            try:
                file.seek(start - run_up)
            except soundfile.SoundFileError as error:
                raise _cut_short(path, f"no sample can be read at {offset} s") from error
        samples = _decode(path, file, run_up + count)[run_up:]
        if len(samples) < count and (exact or len(samples) == 0):
            raise _cut_short(path, f"{len(samples)} samples where its header promises {count}")
    peak = float(np.abs(samples).max())
    if not peak <= _LOUDEST:  # NaN too
        raise UserError(
            f"{path}: its samples reach {peak:g}, expected floating point in [-1, 1]; scale them and write it again"
        )
    waveform = torch.from_numpy(samples)
    if sampling_rate is None:
        return waveform, rate
    return resample(waveform, rate, sampling_rate), sampling_rate


@contextmanager
def _open(path: Path) -> Iterator[soundfile.SoundFile]:
    """An open file with samples in it, not visibly cut short."""
    if path.is_dir():
        raise UserError(f"{path}: is a folder, expected an audio file; name a file in it")
    if not path.exists():
        raise UserError(f"{path}: no such audio file; check the path, relative paths start at {Path.cwd()}")
    if path.stat().st_size == 0:
        raise UserError(f"{path}: is empty (0 bytes); fetch or record it again")
    try:
        file = soundfile.SoundFile(path)
    except (soundfile.SoundFileError, TypeError) as error:  # TypeError: a headerless format such as .raw
        if isinstance(error, TypeError):
            reason = "it has no header"
        else:
            reason = getattr(error, "error_string", str(error)).strip().rstrip(".")
        raise UserError(
            f"{path}: cannot be read as audio ({reason}), expected wav, flac, ogg, opus or mp3; "
            "it is of another kind, damaged or cut short: fetch it again, or convert it (ffmpeg -i INPUT output.wav)"
        ) from error
    with file:
        _check_header(path, file)
        if file.frames == 0:
            raise UserError(f"{path}: holds no samples; fetch or record it again, or leave it out")
        if file.frames >= _UNKNOWN:
            raise UserError(
                f"{path}: its header does not say how long it is, as when written to a pipe; "
                "write it again to a file (ffmpeg -i INPUT output.flac)"
            )
        yield file


def _decode(path: Path, file: soundfile.SoundFile, count: int) -> np.ndarray:
    """At most `count` samples from where the file stands, channels averaged; fewer where it ends before."""
    blocks, left = [], count
    while left:
        try:
            block = file.read(min(left, _BLOCK), dtype="float32", always_2d=True)
        except soundfile.SoundFileError as error:
            raise _cut_short(path, f"decoding stops after {count - left} of {count} samples") from error
        if len(block) == 0:
            break
        blocks.append(block[:, 0] if block.shape[1] == 1 else block.mean(axis=1))
        left -= len(block)
    if len(blocks) == 1:
        return np.ascontiguousarray(blocks[0])
    return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)


def _cut_short(path: Path, found: str) -> UserError:
    return UserError(f"{path}: is cut short or damaged ({found}); fetch or copy it again, or leave it out")


def _check_header(path: Path, file: soundfile.SoundFile) -> None:
    """Refuse what libsndfile mends in silence: a WAV, AIFF or AU shorter than its header says, an Ogg cut in a page."""
    for promised, held in re.findall(r"^ *(?:data|SSND|Data Size) *: (\d+) \(should be (\d+)\)", file.extra_info, re.M):
        if int(held) < int(promised) < 0x7FFFF000:  # sox, ffmpeg and Kaldi write more than this to a pipe: unknown
            raise _cut_short(path, f"{held} bytes of samples where its header promises {promised}")
    if file.format == "OGG" and not _ends_with_a_whole_page(path):
        raise _cut_short(path, "its last Ogg page is not whole")


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
