"""A script stands for ffmpeg, which is seldom where tests run; the last tests ask the real one where there is one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from s2s.audio.read import AudioInfo, audio_info, read_audio, read_blocks
from s2s.audio.resample import resample
from s2s.errors import UserError

RATE = 44100
PRELUDE = """
import os, struct, sys, time
assert sys.argv[1:4] == ["-nostdin", "-loglevel", "error"], sys.argv
assert sys.argv[4] == "-i" and sys.argv[5].startswith("file:"), sys.argv
assert sys.argv[6:] == ["-vn", "-c:a", "pcm_f32le", "-f", "wav", "-"], sys.argv
assert sys.stdin.read() == ""
name, out = sys.argv[5][5:], sys.stdout.buffer
def header(channels, rate):
    form = struct.pack("<HHIIHH", 3, channels, rate, 4 * channels * rate, 4 * channels, 32)
    out.write(b"RIFF\\xff\\xff\\xff\\xffWAVEfmt " + struct.pack("<I", len(form)) + form)
    out.write(b"LIST" + struct.pack("<I", 5) + b"Lavf0\\0" + b"data\\xff\\xff\\xff\\xff")
def complain(*lines):
    for line in lines: print(line, file=sys.stderr)
"""
COPY = 'header(2, 44100)\nout.write(open(name, "rb").read()[8:])\n'  # the file is its own decoding behind 8 bytes

Fake = Callable[[str], Path]


@pytest.fixture
def ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Puts a program of that name on the PATH, alone: it checks how it was called, and then does as said."""

    def install(script: str) -> Path:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        program = folder / "ffmpeg"
        program.write_text(f"#!{sys.executable} -SE\n{PRELUDE}{script}", encoding="utf-8")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(folder))
        return program

    return install


def stereo(seconds: float = 0.5) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.5, 0.5, (int(RATE * seconds), 2)).astype("<f4")


def talk(folder: Path, name: str = "talk.m4a", seconds: float = 0.5) -> tuple[Path, np.ndarray]:
    """A file that libsndfile does not know, and the samples that our ffmpeg decodes it to."""
    samples = stereo(seconds)
    (folder / name).write_bytes(b"\0\0\0\x18ftyp" + samples.tobytes())
    return folder / name, samples


def collect(path: Path, rate: int) -> tuple[Tensor, str]:
    """What blocks there are, and how they end."""
    found: list[Tensor] = []
    with pytest.raises(UserError) as error:
        found.extend(read_blocks(path, rate, 0.1))
    return torch.cat([*found, torch.zeros(0)]), str(error.value)


@pytest.mark.parametrize("name", ["talk.m4a", "-i.mp4", "http:talk?|%03d.webm", "talk.raw"])
def test_what_libsndfile_does_not_know_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ffmpeg: Fake, name: str
) -> None:
    ffmpeg(COPY)
    samples = talk(tmp_path, name)[1]
    monkeypatch.chdir(tmp_path)
    path = Path(name)  # a hyphen comes first
    mono = torch.from_numpy(samples.mean(axis=1))
    found, rate = read_audio(path)
    assert rate == RATE
    assert torch.equal(found, mono)
    assert torch.equal(read_audio(path, 16000)[0], resample(mono, RATE, 16000))
    assert torch.equal(torch.cat(list(read_blocks(path, 16000, 0.1))), resample(mono, RATE, 16000))
    assert audio_info(path) == AudioInfo(RATE, len(samples), 2)


def test_one_channel_or_a_part_is_taken_alone(tmp_path: Path, ffmpeg: Fake) -> None:
    ffmpeg(COPY)
    path, samples = talk(tmp_path)
    assert torch.equal(read_audio(path, channel=2)[0], torch.from_numpy(samples[:, 1]))
    part, _ = read_audio(path, offset=0.1, duration=0.2)
    assert torch.equal(part, torch.from_numpy(samples.mean(axis=1))[4410:13230])
    with pytest.raises(UserError, match=r"talk\.m4a: has no channel 3; name one from 1 to 2"):
        read_audio(path, channel=3)
    with pytest.raises(UserError, match=r"offset 9\.0 s lies past its end \(0\.500 s\)"):
        read_audio(path, offset=9.0)


def test_what_libsndfile_reads_is_not_given_to_ffmpeg(tmp_path: Path, ffmpeg: Fake) -> None:
    ffmpeg("sys.exit(1)")
    soundfile.write(tmp_path / "a.flac", stereo(), RATE)
    assert len(read_audio(tmp_path / "a.flac")[0]) == RATE // 2


def test_without_ffmpeg_the_error_says_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(
        UserError, match=r"talk\.m4a: cannot be read as audio \(Format not recog.*install ffmpeg, or conv"
    ):
        next(read_blocks(talk(tmp_path)[0], 16000))


def test_ffmpeg_that_fails_is_quoted(tmp_path: Path, ffmpeg: Fake) -> None:
    ffmpeg('complain("[in#0] first", "Error opening input files: Invalid data", ""); sys.exit(183)')
    heard, error = collect(talk(tmp_path)[0], 16000)
    assert len(heard) == 0
    assert "talk.m4a: cannot be read as audio" in error
    assert "ffmpeg: Error opening input files: Invalid data)" in error
    ffmpeg("sys.exit(1)")
    with pytest.raises(UserError, match="ffmpeg: it gives no reason"):
        audio_info(talk(tmp_path)[0])


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        ('complain("Conversion failed!"); sys.exit(1)', "Conversion failed!"),
        ('complain("[in#0] File ended prematurely", "more")', "[in#0] File ended prematurely"),
        ('complain("stream 0, offset 0xc5c1: partial file")', "stream 0, offset 0xc5c1: partial file"),
        ("out.flush(); os.abort()", "it gives no reason"),
    ],
)
@pytest.mark.parametrize("rate", [16000, RATE])
def test_a_file_that_ends_too_early_is_an_error_after_its_samples(
    tmp_path: Path, ffmpeg: Fake, end: str, reason: str, rate: int
) -> None:
    ffmpeg(COPY + end)
    path, samples = talk(tmp_path)
    heard, error = collect(path, rate)
    assert torch.equal(heard, resample(torch.from_numpy(samples.mean(axis=1)), RATE, rate))
    assert f"talk.m4a: is cut short or damaged (ffmpeg: {reason})" in error


def test_many_complaints_do_not_stop_it(tmp_path: Path, ffmpeg: Fake) -> None:
    ffmpeg('complain(*["[aac] invalid band type"] * 50000)\n' + COPY)  # more than a pipe holds, before any sample
    path, samples = talk(tmp_path)
    assert len(read_audio(path)[0]) == len(samples)


def test_a_decoding_without_end_is_given_in_blocks_and_stopped(tmp_path: Path, ffmpeg: Fake) -> None:
    ffmpeg(
        "with open(name + '.pid', 'w') as file: file.write(str(os.getpid()))\n"
        "header(1, 16000)\n"
        "while True: out.write(bytes(9999))"
    )
    path, _ = talk(tmp_path)
    blocks = read_blocks(path, 16000, 1.0)
    for _ in range(100):
        assert len(next(blocks)) == 16000
    blocks.close()  # type: ignore[attr-defined]
    with pytest.raises(ProcessLookupError):
        os.kill(int(path.with_suffix(".m4a.pid").read_text()), 0)


def test_a_program_that_does_not_start_is_named(tmp_path: Path, ffmpeg: Fake) -> None:
    ffmpeg("").write_text("#!/nonexistent/interpreter\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"talk\.m4a: ffmpeg does not start \(.*bin/ffmpeg: .*\); install it again"):
        read_audio(talk(tmp_path)[0])


def encoded(folder: Path, name: str, codec: str) -> tuple[Path, np.ndarray]:
    """Three seconds of two tones, one a channel, as the real ffmpeg writes them; and their samples."""
    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg is not installed")
    time = np.arange(48000 * 3) / 48000
    samples = 0.3 * np.sin(2 * np.pi * np.outer(time, [300.0, 500.0])).astype(np.float32)
    soundfile.write(folder / "a.wav", samples, 48000)
    command = ["ffmpeg", "-nostdin", "-loglevel", "error", "-i", folder / "a.wav", "-c:a", codec, folder / name]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip(f"this ffmpeg does not encode {codec}")
    return folder / name, samples


@pytest.mark.parametrize(
    ("name", "codec"), [("a.m4a", "aac"), ("a.webm", "libopus"), ("a.mka", "flac"), ("a.wma", "wmav2")]
)
def test_the_real_ffmpeg_decodes_what_it_encoded(tmp_path: Path, name: str, codec: str) -> None:
    path, samples = encoded(tmp_path, name, codec)
    info = audio_info(path)
    assert (info.sampling_rate, info.num_channels) == (48000, 2)
    assert info.duration == pytest.approx(3.0, abs=0.1)
    for channel in (1, 2):
        found = torch.cat(list(read_blocks(path, 16000, channel=channel)))
        expected = resample(torch.from_numpy(samples[:, channel - 1].copy()), 48000, 16000)
        spectrum, wanted = (torch.fft.rfft(x[8000:40000] * torch.hann_window(32000)).abs() for x in (found, expected))
        assert spectrum.argmax() == wanted.argmax()
        torch.testing.assert_close(spectrum.max(), wanted.max(), atol=0, rtol=0.05)


@pytest.mark.parametrize(("name", "codec"), [("a.webm", "libopus"), ("a.mka", "flac")])
def test_a_file_that_the_real_ffmpeg_finds_cut_is_an_error_after_its_samples(
    tmp_path: Path, name: str, codec: str
) -> None:
    path, _ = encoded(tmp_path, name, codec)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    heard, error = collect(path, 16000)
    assert 0.3 * 48000 < len(heard) < 0.7 * 48000
    assert "is cut short or damaged (ffmpeg: " in error


def test_a_file_that_the_real_ffmpeg_does_not_know_is_refused(tmp_path: Path) -> None:
    path, _ = encoded(tmp_path, "a.m4a", "aac")
    path.write_bytes(path.read_bytes()[:9000])  # its index stands at its end
    with pytest.raises(UserError, match=r"a\.m4a: cannot be read as audio \(libsndfile: .*; ffmpeg: .+\)"):
        read_audio(path)
