from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from lhotse.audio.backend import get_current_audio_backend

from s2s.audio.read import read_audio
from s2s.data.kaldi import read_kaldi
from s2s.data.samples import load_samples
from s2s.errors import UserError


def test_unperturbed_cuts_are_the_samples_of_the_file(kaldi: Path) -> None:
    for cut in read_kaldi(kaldi)[0]:
        torch.testing.assert_close(load_samples(cut), read_audio(cut.recording.sources[0].source)[0], rtol=0, atol=0)


def test_opus_is_read_as_it_is(folder, data_root: Path) -> None:
    files = sorted((data_root / "arabic-digits-ccby").glob("audio/*/*.opus"))[:2]
    cuts, _ = read_kaldi(folder(wav_scp=[f"{file.stem} {file}" for file in files]))
    for cut, file in zip(cuts, files, strict=True):
        torch.testing.assert_close(load_samples(cut), read_audio(file)[0], rtol=0, atol=0)


def test_segments_are_the_samples_of_their_part(folder, yesno) -> None:
    path = yesno[0]["path"]
    made = folder(wav_scp=[f"r {path}"], segments=["a r 0 1.5", "b r 1.2345 3.1", "c r 5.01 -1"])
    whole = read_audio(path)[0]
    parts = [load_samples(cut) for cut in read_kaldi(made)[0]]
    for part, (start, end) in zip(parts, [(0, 12000), (9876, 24800), (40080, len(whole))], strict=True):
        torch.testing.assert_close(part, whole[start:end], rtol=0, atol=0)


def test_channels_are_averaged_unless_one_is_named(folder, tmp_path: Path, digits) -> None:
    left, rate = soundfile.read(digits[0]["path"], dtype="float32")
    right = np.ascontiguousarray(left[::-1]) / 2
    soundfile.write(tmp_path / "stereo.wav", np.stack([left, right], axis=1), rate, subtype="FLOAT")
    made = folder(wav_scp=[f"r {tmp_path}/stereo.wav"], segments=["m r 0 -1", "l r 0 -1 0", "r r 0 -1 1"])
    mean, first, second = (load_samples(cut).numpy() for cut in read_kaldi(made)[0])
    np.testing.assert_array_equal(first, left)
    np.testing.assert_array_equal(second, right)
    np.testing.assert_array_equal(mean, (left + right) / 2)


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_perturbed_speed_changes_length_and_pitch_alike(kaldi: Path, factor: float) -> None:
    for cut in list(read_kaldi(kaldi)[0])[:3]:
        samples = load_samples(cut)
        perturbed = load_samples(cut.perturb_speed(factor))
        assert len(perturbed) == pytest.approx(len(samples) / factor, abs=1)
        # Played at the other rate it is the same sound again.
        back = np.interp(np.arange(len(samples)) / factor, np.arange(len(perturbed)), perturbed.numpy())
        overlap = np.correlate(back, samples.numpy(), "same").max() / np.linalg.norm(back) / np.linalg.norm(samples)
        assert overlap > 0.9


def test_a_file_cut_short_after_it_was_listed_is_named_with_its_line(folder, tmp_path: Path, data_root: Path) -> None:
    opus = next((data_root / "arabic-digits-ccby").glob("audio/*/*.opus"))
    flac = next((data_root / "fsdd").glob("recordings/*.flac"))
    samples, rate = soundfile.read(flac)
    soundfile.write(tmp_path / "a.wav", samples, rate)
    (tmp_path / "b.opus").write_bytes(opus.read_bytes())
    (tmp_path / "c.flac").write_bytes(flac.read_bytes())
    made = folder(wav_scp=[f"{name} {tmp_path}/{name}" for name in ("a.wav", "b.opus", "c.flac")])
    cuts, problems = read_kaldi(made)
    assert problems == []
    before = get_current_audio_backend()
    for number, cut in enumerate(cuts, start=1):
        path = tmp_path / cut.id
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
        for each in (cut, cut.perturb_speed(0.9)):
            with pytest.raises(
                UserError, match=f"wav.scp:{number}: utterance {cut.id}.*: {path}: .*cut short"
            ) as caught:
                load_samples(each)
            assert "extra info" not in str(caught.value)
    assert get_current_audio_backend() is before
