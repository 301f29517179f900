"""The commands on a model trained, tiny, on real digits."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import Cli
from safetensors.torch import load_file

import s2s
from s2s.decoding.config import DecodingConfig
from s2s.errors import UserError
from s2s.training.config import load_train_config
from s2s.training.loop import Trainer


@pytest.fixture(scope="module")
def trained(tiny: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training folder."""
    folder = tmp_path_factory.mktemp("trained")
    Trainer(load_train_config("train", [f"exp_dir={folder}", *tiny, "training.max_epochs=2"]), lambda text: None).run()
    return folder


@pytest.fixture
def model(trained: Path) -> Path:
    return trained / "checkpoints" / "epoch-0002"


def test_train_shows_its_config_and_trains(s2s_cli: Cli, tiny: list[str], tmp_path: Path) -> None:
    code, out, _ = s2s_cli("train", "--show-config", f"exp_dir={tmp_path}", *tiny)
    assert code == 0
    assert "max_epochs: 3" in out
    assert s2s_cli("train", "--show-config", "tokenizer=/nowhere")[0] == 0  # to look, one needs no data
    code, out, err = s2s_cli("train", f"exp_dir={tmp_path}", *tiny, "training.max_epochs=1")
    assert code == 0, err
    assert "epoch 1/1: train loss" in out
    assert "done after 1 epochs, 4 steps" in out


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["tokenizer=/nowhere"], "s2s: error: /nowhere"),
        (["data.train=[]"], "s2s: error: data.train is empty"),
        (["data.train=[/nowhere]"], "s2s: error: /nowhere: not there"),
        (["training.max_epoch=3"], "Did you mean 'training.max_epochs'"),
        (["model.encoder.num_heads=3"], "model_dim=16 does not divide into num_heads=3"),
        (["training.accelerator=abacus"], "training.accelerator=abacus, training.devices=1"),
        (["data.min_duration=99", "data.max_duration=100"], "no utterances left"),
    ],
)
def test_train_names_a_mistake_and_exits_with_1(
    s2s_cli: Cli, tiny: list[str], tmp_path: Path, overrides: list[str], message: str
) -> None:
    code, _, err = s2s_cli("train", f"exp_dir={tmp_path}", *tiny, *overrides)
    assert code == 1
    assert message in err
    assert "Traceback" not in err


def test_average_writes_a_bundle_of_the_kept_checkpoints(s2s_cli: Cli, trained: Path, tmp_path: Path) -> None:
    code, out, _ = s2s_cli("average", trained, "--out", tmp_path / "averaged")
    assert code == 0
    assert "the mean of 2 checkpoints (epoch-0001, epoch-0002)" in out
    s2s.load(tmp_path / "averaged")


@pytest.mark.parametrize("mode", ["joint", "greedy", "ctc_greedy"])
def test_decode_writes_a_transcript_for_every_utterance_to_be_scored(
    s2s_cli: Cli, digits: Path, model: Path, tmp_path: Path, mode: str
) -> None:
    arguments = ("--model", model, "--data", digits / "dev", "--num-workers", 0, f"decoding={mode}")
    code, out, err = s2s_cli("decode", *arguments, "--out", tmp_path)
    assert code == 0, err
    assert "12 utterances" in out
    ids = [line.split()[0] for line in (tmp_path / "text").read_text().splitlines()]
    assert ids == [line.split()[0] for line in (digits / "dev" / "text").read_text().splitlines()]
    record = json.loads((tmp_path / "decode.json").read_text())
    assert record["utterances"] == 12
    assert record["real_time_factor"] > 0
    code, out, _ = s2s_cli("score", "wer", digits / "dev" / "text", tmp_path / "text")
    assert code == 0
    assert out.startswith("%WER ")


def test_decode_writes_what_else_is_asked_for(s2s_cli: Cli, digits: Path, model: Path, tmp_path: Path) -> None:
    asked = ("decoding=diverse", "decoding.groups=4", "decoding.token_times=true", "decoding.attention=true")
    arguments = ("--model", model, "--data", digits / "dev", "--num-workers", 0, "--out", tmp_path)
    code, _, err = s2s_cli("decode", *arguments, *asked)
    assert code == 0, err
    texts = dict((line + " ").split(" ", 1) for line in (tmp_path / "text").read_text().splitlines())
    nbest = [json.loads(line) for line in (tmp_path / "nbest.jsonl").read_text().splitlines()]
    assert len(nbest) == 12 * 8
    for line in nbest:
        assert line["rank"] > 1 or line["text"] == texts[line["id"]].strip()
        assert line["score"] == pytest.approx(0.7 * line["scores"]["attention"] + 0.3 * line["scores"]["ctc"], abs=1e-3)
    words: dict[str, list[str]] = {}
    for name, _, start, duration, word in map(str.split, (tmp_path / "ctm").read_text().splitlines()):
        assert 0 <= float(start) < float(start) + float(duration) < 10
        words.setdefault(name, []).append(word)
    assert words
    assert all(" ".join(words[name]) == texts[name].strip() for name in words)
    assert set(load_file(tmp_path / "attention.safetensors")) == set(texts)


def test_align_gives_every_word_of_the_transcripts_its_time(
    s2s_cli: Cli, digits: Path, model: Path, tmp_path: Path
) -> None:
    arguments = ("align", "--model", model, "--num-workers", 0, "--data")
    code, out, err = s2s_cli(*arguments, digits / "dev", "--out", tmp_path / "ctm")
    assert code == 0, err
    assert "24 words of 12 utterances" in out
    lines = [line.split() for line in (tmp_path / "ctm").read_text().splitlines()]
    for name, *words in map(str.split, (digits / "dev" / "text").read_text().splitlines()):
        own = [line for line in lines if line[0] == name]
        assert [line[4] for line in own] == words
        assert float(own[0][2]) + float(own[0][3]) <= float(own[1][2]) + 1e-6  # one after the other
    file = (digits / "dev" / "wav.scp").read_text().split()[1]
    found = s2s.load(model).align(file, lines[0][4] + " " + lines[1][4])
    assert [f"{word.start:.3f}" for word in found] == [lines[0][2], lines[1][2]]
    for text, message in (
        ("one " * 200, "does the text belong to the audio"),
        ("öne", "characters that the tokenizer"),
    ):
        with pytest.raises(UserError, match=rf"{file}: .*{message}"):
            s2s.load(model).align(file, text)
    broken = tmp_path / "broken"
    shutil.copytree(digits / "dev", broken)
    text = (broken / "text").read_text().splitlines()
    (broken / "text").write_text("\n".join([text[0] + " one" * 200, *text[1:]]) + "\n")
    code, _, err = s2s_cli(*arguments, broken, "--out", tmp_path / "none")
    assert code == 1
    assert text[0].split()[0] in err
    assert not (tmp_path / "none").exists()


def test_a_decoding_of_nothing_writes_nothing(s2s_cli: Cli, model: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name in ("wav.scp", "text", "utt2spk"):
        (tmp_path / "data" / name).touch()
    code, _, err = s2s_cli("decode", "--model", model, "--data", tmp_path / "data", "--out", tmp_path / "out")
    assert code == 1
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()


def test_an_ensemble_and_a_language_model_are_given_on_the_command_line(
    s2s_cli: Cli, digits: Path, model: Path, tmp_path: Path
) -> None:
    arguments = ("decode", "--model", model, "--data", digits / "dev", "--num-workers", 0, "--out")
    assert s2s_cli(*arguments, tmp_path / "one")[0] == 0
    code, _, err = s2s_cli(*arguments, tmp_path / "two", f"decoding.ensemble=[{model}]")
    assert code == 0, err
    assert (tmp_path / "one" / "text").read_text() == (tmp_path / "two" / "text").read_text()
    code, _, err = s2s_cli(*arguments, tmp_path / "three", f"decoding.ensemble=[{tmp_path}]")
    assert code == 1
    assert "not a bundle" in err
    code, _, err = s2s_cli(*arguments, tmp_path / "four", f"decoding.lm={model}")
    assert code == 1
    assert "language model" in err


def test_decode_and_transcribe_and_python_agree(s2s_cli: Cli, digits: Path, model: Path, tmp_path: Path) -> None:
    s2s_cli("decode", "--model", model, "--data", digits / "dev", "--num-workers", 0, "--out", tmp_path)
    decoded = dict((line + " ").split(" ", 1) for line in (tmp_path / "text").read_text().splitlines())
    files = dict(line.split() for line in (digits / "dev" / "wav.scp").read_text().splitlines())
    code, out, _ = s2s_cli("transcribe", "--model", model, *files.values())
    assert code == 0
    lines = dict(line.split("\t") for line in out.splitlines())
    transcripts = s2s.load(model).transcribe(list(files.values()))
    for (name, file), transcript in zip(files.items(), transcripts, strict=True):
        assert lines[file] == decoded[name].strip() == transcript.text


def test_decode_refuses_what_it_cannot_do(s2s_cli: Cli, digits: Path, model: Path, tmp_path: Path) -> None:
    arguments = ("decode", "--model", model, "--data", digits / "dev", "--out", tmp_path / "out")
    for extra, message in (
        ("decoding.beam_sise=3", "Did you mean 'decoding.beam_size'"),
        ("decoding=jont", "joint"),
        ("decoding.beam_size=1000", "beam_size=1000: expected 1 to 30"),
        ("--device=tpu9", "--device tpu9"),
    ):
        code, _, err = s2s_cli(*arguments, extra)
        assert code == 1
        assert message in err
    code, _, err = s2s_cli("decode", "--model", tmp_path, "--data", digits / "dev", "--out", tmp_path / "out")
    assert code == 1
    assert "not a bundle" in err
    assert not (tmp_path / "out").exists()


def test_transcribe_reports_a_bad_file_and_goes_on(s2s_cli: Cli, digits: Path, model: Path, tmp_path: Path) -> None:
    good = (digits / "dev" / "wav.scp").read_text().split()[1]
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("no audio")
    soundfile.write(tmp_path / "short.wav", np.zeros(50), 8000)
    bad = [tmp_path / "empty.wav", tmp_path / "text.wav", tmp_path / "short.wav", tmp_path / "gone.wav"]
    code, out, err = s2s_cli("transcribe", "--model", model, *bad, good)
    assert code == 1
    assert [line.split("\t")[0] for line in out.splitlines()] == [good]
    for path in bad:
        assert str(path) in err
    assert "Traceback" not in err


def test_transcribe_prints_the_text_alone_for_one_file(s2s_cli: Cli, digits: Path, model: Path) -> None:
    good = (digits / "dev" / "wav.scp").read_text().split()[1]
    code, out, _ = s2s_cli("transcribe", "--model", model, "--decoding", "ctc_greedy", good)
    assert code == 0
    assert "\t" not in out


def test_python_takes_arrays_and_refuses_what_is_no_recording(digits: Path, model: Path) -> None:
    good = (digits / "dev" / "wav.scp").read_text().split()[1]
    samples, rate = soundfile.read(good, dtype="float32")
    transcriber = s2s.load(model, DecodingConfig(beam_size=5, nbest=3))
    assert transcriber.sampling_rate == rate
    (from_array,), (from_file,) = transcriber.transcribe(samples), transcriber.transcribe(good)
    assert from_array == from_file
    assert len(from_array.alternatives) == 2
    assert set(from_array.scores) == {"attention", "ctc"}
    assert from_array.seconds == pytest.approx(len(samples) / rate)
    with pytest.raises(UserError, match=r"\(2, 100\); expected one channel"):
        next(transcriber.transcribe(np.zeros((2, 100))))
    with pytest.raises(UserError, match="shorter than one frame"):
        next(transcriber.transcribe(np.zeros(0)))


def test_bundle_adds_a_card_with_the_results(s2s_cli: Cli, model: Path, tmp_path: Path) -> None:
    results = []
    for name, rate in (("dev", "12.00"), ("test", "13.00")):
        (tmp_path / name).write_text(f"%WER {rate} [ 3 / 25, 1 ins, 1 del, 1 sub ]\n")
        results += ["--results", f"{name}, joint={tmp_path / name}"]
    code, _, err = s2s_cli("bundle", model, "--out", tmp_path / "given", "--title", "Digits", *results)
    assert code == 0, err
    card = (tmp_path / "given" / "README.md").read_text()
    assert card.startswith("# Digits\n")
    assert "### dev, joint" in card
    assert "%WER 12.00" in card
    assert "### test, joint" in card
    assert "%WER 13.00" in card
    s2s.load(tmp_path / "given")
    assert not list((tmp_path / "given").rglob("*.pt"))
    code, _, err = s2s_cli("bundle", model, "--out", tmp_path / "other", "--results", "dev=/nowhere")
    assert code == 1
    assert "--results dev=/nowhere: expected NAME=FILE" in err


def test_info_describes_installation_training_and_bundle(s2s_cli: Cli, trained: Path, model: Path) -> None:
    code, out, _ = s2s_cli("info")
    assert code == 0
    assert "torchaudio" in out
    code, out, _ = s2s_cli("info", trained)
    assert code == 0
    assert "2 epochs, 8 steps" in out
    code, out, _ = s2s_cli("info", model)
    assert code == 0
    assert "23 log-mel bins at 8000 Hz" in out
    assert "unigram, 30 pieces" in out
    assert s2s_cli("info", trained / "nowhere")[0] == 1
