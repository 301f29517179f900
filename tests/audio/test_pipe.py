from __future__ import annotations

import io
import os
import struct
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from s2s.audio.pipe import RawFormat, parse_raw_format, read_stdin
from s2s.audio.read import read_audio
from s2s.errors import UserError

RATE = 16000
SUBTYPES = ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"]


class Dribble(io.RawIOBase):
    """A pipe that gives at most `most` bytes at a time, as a slow writer does."""

    def __init__(self, content: bytes, most: int) -> None:
        self.content, self.most = io.BytesIO(content), most

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        data = self.content.read(min(self.most, len(buffer)))
        buffer[: len(data)] = data
        return len(data)


def noise(channels: int = 1, seconds: float = 0.5) -> np.ndarray:
    return np.random.default_rng(channels).uniform(-0.5, 0.5, (int(RATE * seconds), channels)).astype(np.float32)


def wav(samples: np.ndarray, subtype: str = "PCM_16", kind: str = "WAV", rate: int = RATE) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, subtype, format=kind)
    return file.getvalue()


def with_size(content: bytes, size: int) -> bytes:
    """A WAV that says its samples take `size` bytes."""
    place = content.index(b"data") + 4
    return content[:4] + struct.pack("<I", size) + content[8:place] + struct.pack("<I", size) + content[place + 4 :]


def heard(content: bytes, rate: int = RATE, **options: object) -> Tensor:
    blocks = read_stdin(io.BytesIO(content), rate, **options)  # type: ignore[arg-type]
    return torch.cat([*blocks, torch.zeros(0)])


def libsndfile(content: bytes) -> Tensor:
    return torch.from_numpy(soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)[0].mean(axis=1))


@pytest.mark.parametrize("kind", ["WAV", "WAVEX"])
@pytest.mark.parametrize("subtype", SUBTYPES)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_encoding_is_read_as_libsndfile_reads_it(kind: str, subtype: str, channels: int) -> None:
    content = wav(noise(channels), subtype, kind)
    assert torch.equal(heard(content), libsndfile(content))


@pytest.mark.parametrize("size", [0, 0x7FFFF000, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_wav_of_unknown_length_is_read_to_its_end(size: int) -> None:
    content = wav(noise())
    assert torch.equal(heard(with_size(content, size)), libsndfile(content))


def test_chunks_before_and_after_the_samples_are_left_out() -> None:
    content = wav(noise())
    place = content.index(b"data")
    listed = b"LIST" + struct.pack("<I", 5) + b"odd..\0"  # padded to an even place, which its size does not count
    bext = b"bext" + struct.pack("<I", 200001) + bytes(200002)
    assert torch.equal(
        heard(content[:12] + bext + content[12:place] + listed + content[place:] + listed), heard(content)
    )


def test_one_channel_is_taken_alone() -> None:
    samples = noise(2)
    content = wav(samples, "FLOAT")
    assert torch.equal(heard(content, channel=2), torch.from_numpy(samples[:, 1]))
    with pytest.raises(UserError, match=r"standard input: has no channel 3; name one from 1 to 2"):
        heard(content, channel=3)


@settings(max_examples=15)
@given(
    most=st.integers(1, 5000),
    subtype=st.sampled_from(["PCM_16", "PCM_24", "FLOAT"]),
    channels=st.sampled_from([1, 2]),
    rate=st.sampled_from([8000, 16000]),
)
def test_a_slow_writer_changes_nothing(most: int, subtype: str, channels: int, rate: int) -> None:
    content = wav(noise(channels, 0.1), subtype)
    expected = heard(content, rate)
    raw, buffered = Dribble(content, most), io.BufferedReader(Dribble(content, most))
    for stream in (raw, buffered):
        assert torch.equal(torch.cat(list(read_stdin(stream, rate, block_seconds=0.03))), expected)  # type: ignore[arg-type]


def test_a_block_is_given_while_the_writer_goes_on() -> None:
    content = wav(noise(seconds=2.0))
    source, sink = os.pipe()
    with os.fdopen(source, "rb") as stream, os.fdopen(sink, "wb", buffering=0) as writer:
        writer.write(with_size(content, 0xFFFFFFFF)[: 44 + 2 * 20000])  # would wait for ever for a second more
        blocks = read_stdin(stream, RATE, block_seconds=0.5)
        assert torch.equal(torch.cat([next(blocks), next(blocks)]), libsndfile(content)[:16000])


def test_an_endless_stream_is_read_in_bounded_memory() -> None:
    class Endless(io.RawIOBase):
        given = 0

        def read(self, size: int = -1) -> bytes:
            assert 0 < size <= 1 << 17
            self.given += size
            return bytes(size)

    stream = Endless()
    blocks = read_stdin(stream, RATE, RawFormat(), block_seconds=1.0)  # type: ignore[arg-type]
    for number in range(1, 100):
        assert torch.equal(next(blocks), torch.zeros(RATE))
        assert stream.given <= 2 * RATE * number + (1 << 17)


def test_samples_that_the_header_promises_and_the_pipe_lacks_are_missed() -> None:
    content = wav(noise())
    found: list[Tensor] = []
    with pytest.raises(UserError, match=r"standard input: is cut short .*10000 bytes .* promises 16000"):
        found.extend(read_stdin(io.BytesIO(content[: 44 + 10000]), RATE))
    assert torch.equal(torch.cat(found), libsndfile(content)[:5000])


@pytest.mark.parametrize(
    ("raw", "dtype", "scale"),
    [
        (RawFormat(), "<i2", 32768),
        (RawFormat(8000, "f32le", 2), "<f4", 1),
        (RawFormat(44100, "s32le", 3), "<i4", 2**31),
    ],
)
def test_raw_samples_are_read_as_said(raw: RawFormat, dtype: str, scale: int) -> None:
    values = (noise(raw.channels) * scale).astype(dtype)
    expected = torch.from_numpy((values.astype(np.float32) / np.float32(scale)).mean(axis=1))
    assert torch.equal(heard(values.tobytes(), raw.sampling_rate, raw=raw), expected)
    assert len(heard(values.tobytes(), 4000, raw=raw)) == pytest.approx(len(values) * 4000 / raw.sampling_rate, abs=1)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("s16le", RawFormat(16000, "s16le", 1)),
        ("mulaw:8000", RawFormat(8000, "mulaw", 1)),
        ("f32le:44100:2", RawFormat(44100, "f32le", 2)),
    ],
)
def test_a_raw_format_is_read_from_a_line(spec: str, expected: RawFormat) -> None:
    assert parse_raw_format(spec) == expected


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("", "raw: encoding is '', expected one of u8, s16le"),
        ("s16", r"encoding is 's16', expected one of .* Did you mean 's16le'"),
        ("s16le:", r"'s16le:' is not ENCODING\[:RATE\[:CHANNELS\]\]; an example: s16le:16000:1"),
        ("s16le:16k", "is not ENCODING"),
        ("s16le:16000:1:1", "is not ENCODING"),
        ("16000:s16le", "is not ENCODING"),
        ("s16le:0", "sampling_rate is 0, expected 1 or more"),
        ("s16le:16000:0", "channels is 0, expected 1 or more"),
    ],
)
def test_a_raw_format_that_is_none_is_refused(spec: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_raw_format(spec)


def test_nothing_at_all_is_refused() -> None:
    with pytest.raises(UserError, match="standard input: is empty"):
        heard(b"")
    with pytest.raises(UserError, match="standard input: holds no samples"):
        heard(b"", raw=RawFormat())
    with pytest.raises(UserError, match="standard input: holds no samples"):
        heard(wav(np.zeros(0)))


@pytest.mark.parametrize("content", [b"fLaC\0\0\0\x22 and so on", b"hello world\n", b"RIFF\0\0\0\0AVI LIST", b"R"])
def test_what_is_not_wav_is_refused_with_the_way_to_say_raw(content: bytes) -> None:
    with pytest.raises(UserError, match=r"is not WAV .*--raw s16le:16000.*the file's name"):
        heard(content)


def test_a_compressed_wav_is_refused_by_its_format() -> None:
    with pytest.raises(UserError, match=r"WAVE format 2 with 4 bits, expected integers .*convert"):
        heard(wav(noise(), "MS_ADPCM"))


@settings(max_examples=15)
@given(share=st.floats(0, 1), kind=st.sampled_from(["WAV", "WAVEX"]))
def test_a_header_cut_anywhere_is_refused(share: float, kind: str) -> None:
    content = wav(noise(seconds=0.01), kind=kind)
    header = content.index(b"data") + 8
    with pytest.raises(UserError, match=r"standard input: (is cut short|is empty|is not WAV|holds no samples)"):
        heard(content[: int(share * (header - 1))])


@settings(max_examples=50)
@given(rest=st.binary(max_size=80), place=st.integers(12, 60), junk=st.binary(min_size=1, max_size=8))
def test_whatever_a_header_says_there_is_no_other_error(rest: bytes, place: int, junk: bytes) -> None:
    content = wav(noise(seconds=0.01))
    for damaged in (content[:12] + rest, content[:place] + junk + content[place + len(junk) :]):
        with suppress(UserError):
            assert heard(damaged).isfinite().all()


def test_a_real_recording_through_a_pipe_is_what_its_file_gives(data_root: Path) -> None:
    path = data_root / "samples/jfk.flac"
    samples, rate = soundfile.read(path, dtype="int16")
    content = with_size(wav(samples, rate=rate), 0xFFFFFFFF)
    assert torch.equal(heard(content, 8000), read_audio(path, 8000)[0])
    assert torch.equal(heard(samples.tobytes(), 8000, raw=RawFormat(rate)), read_audio(path, 8000)[0])
