"""A segmental model, tiny, from training to text: every command that knows models knows it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import Cli

import s2s
from s2s.errors import UserError
from s2s.models.bundle import load_bundle
from s2s.models.segmental import SegmentalModel
from s2s.training.config import load_train_config
from s2s.training.loop import Trainer


def say_nothing(text: str) -> None:
    """What a training says is not looked at."""


@pytest.fixture(scope="module")
def options(tiny: list[str]) -> list[str]:
    return ["model=streaming_segmental", *tiny]


@pytest.fixture(scope="module")
def trained(options: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training folder."""
    folder = tmp_path_factory.mktemp("segmental")
    Trainer(load_train_config("train", [f"exp_dir={folder}", *options, "training.max_epochs=2"]), say_nothing).run()
    return folder


@pytest.fixture(scope="module")
def model(trained: Path) -> Path:
    return trained / "checkpoints" / "epoch-0002"


@pytest.fixture(scope="module")
def recording(digits: Path) -> str:
    return (digits / "dev" / "wav.scp").read_text().split()[1]


def test_a_training_records_both_parts_of_the_loss(trained: Path) -> None:
    for record in map(json.loads, (trained / "metrics.jsonl").read_text().splitlines()):
        both = record["train_label"] + record["train_length"]
        assert record["train_attention"] == pytest.approx(both, rel=1e-4)


@pytest.mark.parametrize("search", ["segmental", "time_synchronous"])
def test_decode_writes_texts_times_and_where_it_looked(
    s2s_cli: Cli, digits: Path, model: Path, tmp_path: Path, search: str
) -> None:
    arguments = ("decode", "--model", model, "--data", digits / "dev", "--num-workers", 0, "--out", tmp_path)
    asked = ("decoding.beam_size=4", "decoding.nbest=2", "decoding.token_times=true", "decoding.attention=true")
    code, out, err = s2s_cli(*arguments, "decoding=segmental", f"decoding.segment_search={search}", *asked)
    assert code == 0, err
    assert "12 utterances" in out
    assert len((tmp_path / "text").read_text().splitlines()) == 12
    assert (tmp_path / "ctm").exists()
    assert (tmp_path / "attention.safetensors").exists()
    assert json.loads((tmp_path / "decode.json").read_text())["decoding"]["segment_search"] == search


@pytest.mark.parametrize("mode", ["ctc_greedy", "ctc_prefix"])
def test_ctc_of_a_segmental_model_goes_on_working(
    s2s_cli: Cli, digits: Path, model: Path, tmp_path: Path, mode: str
) -> None:
    arguments = ("decode", "--model", model, "--data", digits / "dev", "--num-workers", 0, "--out", tmp_path)
    code, _, err = s2s_cli(*arguments, f"decoding={mode}", "decoding.token_times=true")
    assert code == 0, err


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (["decoding=joint"], "decoding.search=beam: needs a decoder that goes from label to label"),
        (["decoding=sampling"], "decoding.search=sampling: needs a decoder"),
        (["decoding=rescoring"], "decoding.rescore=true: needs a decoder"),
        (["decoding=ctc_greedy", "decoding.attention=true"], "decoding.attention=true: needs a decoder"),
        (["decoding=segmental", "decoding.length_bonus=1.0"], "length_bonus=1.0: has no effect with search=segmental"),
        (["decoding=joint", "decoding.recombine=sum"], "decoding.recombine=sum: has no effect with search=beam"),
        (["decoding=segmental", "decoding.recombine=all"], "decoding.recombine=all: expected max or sum"),
        (["decoding=segmental", "decoding.segment_search=x"], "decoding.segment_search=x: expected segmental or"),
        (["decoding=segmental", "decoding.beam_threshold=0"], "decoding.beam_threshold=0.0: expected more than 0"),
    ],
)
def test_what_a_segmental_decoder_cannot_do_is_refused(
    s2s_cli: Cli, digits: Path, model: Path, tmp_path: Path, asked: list[str], message: str
) -> None:
    arguments = ("decode", "--model", model, "--data", digits / "dev", "--num-workers", 0, "--out", tmp_path / "out")
    code, _, err = s2s_cli(*arguments, *asked)
    assert code == 1
    assert message in err
    assert not (tmp_path / "out").exists()


def test_transcribe_and_stream_search_it_by_themselves(s2s_cli: Cli, model: Path, recording: str) -> None:
    transcriber = s2s.load(model)
    assert transcriber.decoding.search == "segmental"  # type: ignore[attr-defined]
    code, out, err = s2s_cli("transcribe", "--model", model, "--quiet", recording)
    assert code == 0, err
    assert out.strip() == next(transcriber.transcribe(recording)).text.strip()
    code, out, err = s2s_cli("stream", "--model", model, "--simulate", "--quiet", recording)
    assert code == 0, err
    code, out, err = s2s_cli("stream", "--model", model, "--policy", "wait_k", "--simulate", "--quiet", recording)
    assert code == 1
    assert "this segmental model hears whole utterances" in err
    code, out, err = s2s_cli("info", model)
    assert code == 0, err
    assert "SegmentalModel" in out
    code, out, err = s2s_cli("transcribe", "--model", model, "--quiet", "--dtype", "int8", recording)
    assert code == 0, err


def test_its_own_alignment_trains_the_next_one(
    s2s_cli: Cli, digits: Path, options: list[str], model: Path, tmp_path: Path
) -> None:
    data = ("--data", digits / "train", "--data", digits / "dev", "--num-workers", 0)
    ends = tmp_path / "ends.jsonl"
    code, out, err = s2s_cli("align", "--model", model, *data, "--ends", ends)
    assert code == 0, err
    assert "of 60 utterances" in out
    lines = [json.loads(line) for line in ends.read_text().splitlines()]
    assert len(lines) == 60
    assert all(len(line["tokens"]) == len(line["ends"]) for line in lines)
    assert all(a < b for line in lines for a, b in zip([0.0, *line["ends"]], line["ends"], strict=False))
    config = load_train_config(
        "train", [f"exp_dir={tmp_path / 'exp'}", *options, "training.max_epochs=1", f"data.alignments={ends}"]
    )
    Trainer(config, say_nothing).run()
    assert isinstance(load_bundle(tmp_path / "exp" / "checkpoints" / "epoch-0001").model, SegmentalModel)
    few = tmp_path / "few.jsonl"
    few.write_text("".join(ends.read_text().splitlines(keepends=True)[:48]))
    arguments = [*options, f"exp_dir={tmp_path / 'none'}", f"data.alignments={few}"]
    with pytest.raises(UserError, match=r"few\.jsonl: utterance '.*' \(.*\) is not in it"):
        Trainer(load_train_config("train", arguments), say_nothing)
    with pytest.raises(UserError, match=r"data\.alignments=.*: is for a segmental model, and this is a HybridModel"):
        Trainer(load_train_config("train", [*arguments, "model=conformer_small"]), say_nothing)


def test_align_writes_words_too_and_wants_something_to_write(
    s2s_cli: Cli, digits: Path, model: Path, tmp_path: Path
) -> None:
    arguments = ("align", "--model", model, "--data", digits / "dev", "--num-workers", 0)
    code, out, err = s2s_cli(*arguments, "--out", tmp_path / "ctm")
    assert code == 0, err
    assert "24 words of 12 utterances" in out
    code, _, err = s2s_cli(*arguments)
    assert code == 1
    assert "nothing to write: give --out FILE for the words" in err


def test_heads_that_matter_least_are_pruned(s2s_cli: Cli, digits: Path, model: Path, tmp_path: Path) -> None:
    arguments = ("prune", model, "--data", digits / "dev", "--num-workers", 0, "--keep", 0.5)
    code, out, err = s2s_cli(*arguments, "--out", tmp_path / "pruned")
    assert code == 0, err
    assert "decoder.layers.0.memory_attention: " in out
    assert isinstance(load_bundle(tmp_path / "pruned").model, SegmentalModel)


def test_a_hybrid_model_is_not_segmental(s2s_cli: Cli, digits: Path, tiny: list[str], tmp_path: Path) -> None:
    Trainer(load_train_config("train", [f"exp_dir={tmp_path}", *tiny, "training.max_epochs=1"]), say_nothing).run()
    arguments = ("--model", tmp_path / "checkpoints" / "epoch-0001", "--data", digits / "dev", "--num-workers", 0)
    code, _, err = s2s_cli("decode", *arguments, "--out", tmp_path / "out", "decoding=segmental")
    assert code == 1
    assert "decoding.search=segmental: this model's decoder is not segmental" in err
