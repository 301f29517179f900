from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from s2s.audio.read import AudioInfo, audio_info, read_audio, read_blocks
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


def test_one_channel_is_taken_alone(tmp_path: Path) -> None:
    left, right = sweep(), -0.5 * sweep()
    path = write(tmp_path, "wav", np.stack([left, right], axis=1))
    for channel, expected in enumerate([left, right], start=1):
        torch.testing.assert_close(read_audio(path, channel=channel)[0], torch.from_numpy(expected), atol=1e-4, rtol=0)
    torch.testing.assert_close(next(read_blocks(path, RATE, 1.0, 2)), torch.from_numpy(right[:RATE]), atol=1e-4, rtol=0)


@pytest.mark.parametrize("channel", [-1, 0, 2])
def test_a_channel_that_a_file_lacks_is_refused(tmp_path: Path, channel: int) -> None:
    with pytest.raises(UserError, match=rf"a\.wav: has no channel {channel}; name one from 1 to 1"):
        read_audio(write(tmp_path, "wav", sweep()), channel=channel)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rate=st.sampled_from([8000, 11025, 16000, 22050, 44100, 48000]),
    new_rate=st.sampled_from([8000, 16000, 24000]),
    length=st.integers(1, 100000),
    block_seconds=st.sampled_from([0.01, 0.3, 1.0, 30.0]),
)
def test_blocks_are_the_whole_cut_at_equal_distances(
    tmp_path: Path, rate: int, new_rate: int, length: int, block_seconds: float
) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.random.default_rng(length).uniform(-0.5, 0.5, length), rate)
    # Exactly: soxr keeps its filter's state from piece to piece and computes each sample in the same order.
    whole = resample(torch.from_numpy(soundfile.read(path, dtype="float32")[0]), rate, new_rate)
    blocks = list(read_blocks(path, new_rate, block_seconds))
    assert all(len(block) == round(block_seconds * new_rate) for block in blocks[:-1])
    assert torch.equal(torch.cat([*blocks, torch.zeros(0)]), whole)
    assert torch.equal(read_audio(path, new_rate)[0], whole)


@pytest.mark.parametrize("kind", CONTAINERS)
def test_blocks_of_every_container_are_what_is_read_at_once(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path, kind, sweep(6.0))
    assert torch.equal(torch.cat(list(read_blocks(path, 8000, 0.7))), read_audio(path, 8000)[0])


def test_an_mp3_has_no_gaps_between_the_pieces_it_is_read_in(tmp_path: Path) -> None:
    path = write(tmp_path, "mp3", sweep(90.0))  # many pieces, of any size that a reader may choose
    at_once = torch.from_numpy(soundfile.read(path, dtype="float32")[0])
    torch.testing.assert_close(read_audio(path)[0], at_once, atol=1e-5, rtol=0)


def test_a_block_is_given_before_the_rest_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, asked = write(tmp_path, "wav", np.tile(sweep(), 60)), []
    read = soundfile.SoundFile.read

    def noted(file: soundfile.SoundFile, frames: int, **options: Any) -> np.ndarray:
        asked.append(frames)
        return read(file, frames, **options)

    monkeypatch.setattr(soundfile.SoundFile, "read", noted)
    blocks = read_blocks(path, RATE, block_seconds=5.0)
    for number in range(1, 10):
        assert len(next(blocks)) == 5 * RATE
        assert sum(asked) < (5 * number + 5) * RATE  # of 120 seconds


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg", "opus", "mp3"])
def test_the_blocks_of_a_cut_file_come_before_its_error(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path, kind, sweep(20.0))
    whole, _ = read_audio(path, 8000)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * 0.7)])
    found: list[Tensor] = []
    with pytest.raises(UserError, match=rf"a\.{kind}: is cut short"):
        found.extend(read_blocks(path, 8000, block_seconds=1.0))
    heard = torch.cat(found)
    assert 0.5 * len(whole) < len(heard) < 0.8 * len(whole)
    torch.testing.assert_close(heard[:-2000], whole[: len(heard) - 2000], atol=1e-3, rtol=0)


@pytest.mark.parametrize("block_seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_blocks_of_no_length_are_refused(tmp_path: Path, block_seconds: float) -> None:
    with pytest.raises(UserError, match="block_seconds must be a positive number"):
        next(read_blocks(write(tmp_path, "wav", sweep()), RATE, block_seconds))


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


@pytest.mark.parametrize("first", ["quiet", "loud"])
def test_an_mp3_that_states_no_length_is_read_and_counted_whole(tmp_path: Path, first: str) -> None:
    quiet = np.zeros(RATE * 6, np.float32)
    loud = np.random.default_rng(0).normal(0, 0.2, RATE * 3).astype(np.float32)
    # libsndfile guesses the length from the first bit rate: too great a one where it is low, too small where it is high
    samples = np.concatenate([quiet, loud, quiet] if first == "quiet" else [loud, quiet, loud])
    path = tmp_path / "a.mp3"
    soundfile.write(path, samples, RATE, bitrate_mode="VARIABLE", compression_level=0.5)
    content = path.read_bytes()
    frame = content.index(content[:2], 100)  # the one after that with the Xing tag
    path.write_bytes(content[frame:])
    guess = soundfile.info(path).frames / len(samples)
    assert guess > 1.2 if first == "quiet" else guess < 0.8
    found, _ = read_audio(path)
    assert abs(len(found) - len(samples)) < 0.2 * RATE
    assert audio_info(path).num_samples == len(found)
    assert torch.equal(read_audio(path, offset=4.0)[0], found[4 * RATE :])
    assert torch.equal(read_audio(path, offset=4.0, duration=1.0)[0], found[4 * RATE : 5 * RATE])
    assert torch.equal(torch.cat(list(read_blocks(path, RATE, 0.7))), found)
    with pytest.raises(UserError, match=r"offset 99\.0 s lies past its end \(\d+\.\d{3} s\)"):
        read_audio(path, offset=99.0)


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


@pytest.mark.parametrize("name", ["samples/jfk.flac", "arabic-digits-ccby/audio/eight/00000001_NO_01.opus"])
def test_blocks_of_real_recordings_are_what_is_read_at_once(data_root: Path, name: str) -> None:
    blocks = list(read_blocks(data_root / name, 8000, block_seconds=0.25))
    assert len(blocks) > 2
    assert torch.equal(torch.cat(blocks), read_audio(data_root / name, 8000)[0])
