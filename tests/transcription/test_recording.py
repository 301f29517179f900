from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from s2s.errors import UserError
from s2s.transcription.recording import Recording, recordings


def samples_of(recording: Recording, rate: int) -> torch.Tensor:
    return torch.cat(list(recording.blocks(rate)))


def test_a_file_is_read_when_it_is_asked_for_at_the_rate_that_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    found = Recording.of(path)  # there is no such file yet
    assert found.name == str(path)
    left, right = np.full(8000, 0.5, dtype=np.float32), np.full(8000, -0.25, dtype=np.float32)
    soundfile.write(path, np.stack([left, right], axis=1), 8000, subtype="FLOAT")
    assert len(samples_of(found, 16000)) == 16000
    for channel, expected in ((None, 0.125), (1, 0.5), (2, -0.25)):
        torch.testing.assert_close(samples_of(Recording.of(path, channel), 8000), torch.full((8000,), expected))


def test_a_file_that_cannot_be_read_is_named_once_it_is_asked_for(tmp_path: Path) -> None:
    found = Recording.of(tmp_path / "absent.wav")
    with pytest.raises(UserError, match=r"absent\.wav"):
        samples_of(found, 16000)


def test_samples_are_a_recording_at_the_model_s_rate() -> None:
    expected = torch.arange(5.0)
    for audio in (expected, expected.numpy(), expected.double().numpy()):
        found = Recording.of(audio)
        torch.testing.assert_close(samples_of(found, 16000), expected)
        assert Recording.of(found) is found


def test_what_is_no_audio_is_refused() -> None:
    for audio, message in (
        (torch.zeros(2, 5), r"the array of samples has the shape \(2, 5\); expected one channel"),
        (np.zeros(5, dtype=np.int16), r"holds torch\.int16; expected floating point in \[-1, 1\]"),
        ((torch.zeros(5), 16000), r"tuple: expected a path, or samples as an array"),
        (None, r"NoneType: expected a path, or samples as an array"),
    ):
        with pytest.raises(UserError, match=message):
            Recording.of(audio)  # type: ignore[arg-type]


def test_one_or_several_may_be_given(tmp_path: Path) -> None:
    assert [r.name for r in recordings(tmp_path / "a.wav")] == [str(tmp_path / "a.wav")]
    assert [r.name for r in recordings("a.wav")] == ["a.wav"]
    assert [r.name for r in recordings(torch.zeros(3))] == ["the array of samples"]
    assert [r.name for r in recordings(["a.wav", Path("b.wav"), np.zeros(3)])][:2] == ["a.wav", "b.wav"]
