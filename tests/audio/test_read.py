from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from s2s.audio.read import AudioInfo, audio_info, read_audio
from s2s.audio.resample import resample
from s2s.errors import UserError

RATE = 16000
CONTAINERS = {
    "wav": {},
    "flac": {},
    "ogg": {"format": "OGG", "subtype": "VORBIS"},
    "opus": {"format": "OGG", "subtype": "OPUS"},
    "mp3": {},
}
CLOSE = {"wav": 1e-4, "flac": 1e-4, "ogg": 0.05, "opus": 0.05, "mp3": 0.05}  # 16 bits; the others are lossy


def sweep(seconds: float = 2.0) -> np.ndarray:
    time = np.arange(int(RATE * seconds)) / RATE
    return (0.4 * np.sin(2 * np.pi * (200 + 600 / seconds * time) * time)).astype(np.float32)


def write(folder: Path, kind: str, samples: np.ndarray) -> Path:
    options: dict[str, Any] = CONTAINERS[kind]
    path = folder / f"a.{kind}"
    soundfile.write(path, samples, RATE, **options)
    return path


@pytest.mark.parametrize("kind", CONTAINERS)
def test_what_was_written_is_read(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path, kind, sweep())
    samples, rate = read_audio(path)
    assert (rate, samples.dtype, samples.shape) == (RATE, torch.float32, (2 * RATE,))
    inner = slice(None) if CLOSE[kind] < 1e-3 else slice(100, -100)  # lossy encoders bend the ends
    torch.testing.assert_close(samples[inner], torch.from_numpy(sweep())[inner], atol=CLOSE[kind], rtol=0)
    assert audio_info(path) == AudioInfo(RATE, 2 * RATE, 1)
    assert audio_info(path).duration == 2.0


@pytest.mark.parametrize("kind", CONTAINERS)
def test_a_segment_is_that_part_of_the_whole(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path, kind, sweep(6.0))
    whole, _ = read_audio(path)
    for start, end in ((100, 900), (12000, 20000), (60001, 80000)):
        part, _ = read_audio(path, offset=start / RATE, duration=(end - start) / RATE)
        torch.testing.assert_close(part, whole[start:end], atol=1e-4, rtol=0)
    rest, _ = read_audio(path, offset=5.5, duration=99.0)
    torch.testing.assert_close(rest, whole[88000:], atol=1e-4, rtol=0)


def test_channels_are_averaged(tmp_path: Path) -> None:
    left, right = sweep(), np.zeros_like(sweep())
    path = write(tmp_path, "wav", np.stack([left, right], axis=1))
    torch.testing.assert_close(read_audio(path)[0], torch.from_numpy(left) / 2, atol=1e-4, rtol=0)
    assert audio_info(path).num_channels == 2


def test_long_audio_is_read_whole(tmp_path: Path) -> None:
    samples = np.tile(sweep(), 40)  # more than one block
    np.testing.assert_allclose(read_audio(write(tmp_path, "wav", samples))[0], samples, atol=1e-4)


def test_reading_at_another_rate_resamples(tmp_path: Path) -> None:
    path = write(tmp_path, "flac", sweep())
    samples, rate = read_audio(path, sampling_rate=8000)
    assert rate == 8000
    assert torch.equal(samples, resample(read_audio(path)[0], RATE, 8000))


@pytest.mark.parametrize("kind", CONTAINERS)
@pytest.mark.parametrize("share", [0.3, 0.5, 0.9, 0.99])
def test_a_file_cut_in_the_middle_is_refused(tmp_path: Path, kind: str, share: float) -> None:
    path = write(tmp_path, kind, sweep())
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(UserError, match=rf"a\.{kind}: .*cut short.*fetch"):
        read_audio(path)


@pytest.mark.parametrize("kind", ["AIFF", "AU"])
def test_other_cut_headers_are_refused_too(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.audio"
    soundfile.write(path, sweep(), RATE, format=kind)
    path.write_bytes(path.read_bytes()[:20000])
    with pytest.raises(UserError, match="header promises 64"):
        audio_info(path)


def test_a_cut_flac_is_refused_within_a_segment_past_the_cut(tmp_path: Path) -> None:
    path = write(tmp_path, "flac", sweep())
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="cut short or damaged"):
        read_audio(path, offset=1.8)
    with pytest.raises(UserError, match="cut short or damaged"):
        read_audio(path, offset=0.1, duration=1.5)


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF024])
def test_a_wav_written_to_a_pipe_is_not_taken_for_a_cut_one(tmp_path: Path, size: int) -> None:
    path = write(tmp_path, "wav", sweep())
    content = bytearray(path.read_bytes())
    content[4:8] = content[40:44] = size.to_bytes(4, "little")
    path.write_bytes(content)
    assert len(read_audio(path)[0]) == 2 * RATE


def test_a_flac_of_unknown_length_is_refused_with_the_way_out(tmp_path: Path) -> None:
    path = write(tmp_path, "flac", sweep())
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0  # the 36-bit number of samples in STREAMINFO
    content[22:26] = bytes(4)
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"does not say how long.*ffmpeg"):
        read_audio(path)


def test_an_mp3_that_states_no_length_is_read_and_counted_whole(tmp_path: Path) -> None:
    quiet = np.zeros(RATE * 3, np.float32)  # a low first bit rate, from which libsndfile guesses too great a length
    samples = np.concatenate([quiet, np.random.default_rng(0).normal(0, 0.2, RATE * 3).astype(np.float32), quiet])
    path = tmp_path / "a.mp3"
    soundfile.write(path, samples, RATE, bitrate_mode="VARIABLE", compression_level=0.5)
    content = path.read_bytes()
    first = content.index(content[:2], 100)  # the frame after the one with the Xing tag
    path.write_bytes(content[first:])
    assert soundfile.info(path).frames > len(samples) * 1.2
    found, _ = read_audio(path)
    assert abs(len(found) - len(samples)) < 0.2 * RATE
    assert audio_info(path).num_samples == len(found)
    assert torch.equal(read_audio(path, offset=4.0)[0], found[4 * RATE :])


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"")
    with pytest.raises(UserError, match=r"a\.wav: is empty \(0 bytes\)"):
        read_audio(tmp_path / "a.wav")


def test_a_file_of_no_samples_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.wav: holds no samples"):
        read_audio(write(tmp_path, "wav", np.zeros(0)))


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.wav: no such audio file"):
        read_audio(tmp_path / "none.wav")
    with pytest.raises(UserError, match="is a folder"):
        read_audio(tmp_path)


@pytest.mark.parametrize("name", ["a.wav", "a.mp3", "a.flac", "a.raw", "a"])
def test_a_text_file_is_refused_whatever_its_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("utterance-1 hello world\n" * 50)
    with pytest.raises(UserError, match=rf"{name}: cannot be read as audio .*ffmpeg"):
        audio_info(tmp_path / name)


@pytest.mark.parametrize(("offset", "duration"), [(-1.0, None), (0.0, 0.0), (0.0, -1.0), (float("nan"), None)])
def test_a_segment_that_is_none_is_refused(tmp_path: Path, offset: float, duration: float | None) -> None:
    with pytest.raises(UserError, match="offset must be >= 0"):
        read_audio(write(tmp_path, "wav", sweep()), offset=offset, duration=duration)


def test_an_offset_past_the_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"offset 2\.5 s lies past its end \(2\.000 s\)"):
        read_audio(write(tmp_path, "wav", sweep()), offset=2.5)


@pytest.mark.parametrize(("factor", "found"), [(32768.0, "13"), (float("nan"), "nan")])
def test_float_samples_on_another_scale_are_refused(tmp_path: Path, factor: float, found: str) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, sweep() * factor, RATE, subtype="FLOAT")
    with pytest.raises(UserError, match=rf"its samples reach {found}.*expected floating point in \[-1, 1\]"):
        read_audio(path)


@pytest.mark.parametrize(
    ("name", "rate", "num_samples"),
    [("samples/jfk.flac", 16000, 176000), ("fsdd/recordings/0_george_0.flac", 8000, 2384)],
)
def test_real_flac_is_read(data_root: Path, name: str, rate: int, num_samples: int) -> None:
    assert audio_info(data_root / name) == AudioInfo(rate, num_samples, 1)
    samples, found = read_audio(data_root / name)
    assert (found, samples.shape) == (rate, (num_samples,))
    assert 0.05 < samples.abs().max() <= 1
    assert len(read_audio(data_root / name, sampling_rate=48000)[0]) == num_samples * 48000 // rate


def test_real_opus_is_read(data_root: Path) -> None:
    path = data_root / "arabic-digits-ccby/audio/eight/00000001_NO_01.opus"
    info = audio_info(path)
    samples, rate = read_audio(path, sampling_rate=16000)
    assert rate == 16000
    assert len(samples) == pytest.approx(info.duration * 16000, abs=1)
    assert samples.abs().max() > 0.02
