from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from toy import BOS, EOS, toy_bundle

from s2s.models.build import build
from s2s.models.memory import Memory

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SIZES = {"model-dim": 16, "num-heads": 2, "feed-forward-dim": 16, "encoder-layers": 1, "decoder-layers": 1}
SIZES |= {"vocab-size": 30, "beam-size": 3, "threads": 1, "repeats": 1}
TINY = [f"--{name}={value}" for name, value in SIZES.items()]
NO_PEERS = ["--without", "espnet,speechbrain,transformers"]


def run(script: str, *arguments: object) -> None:
    command = [sys.executable, str(BENCHMARKS / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def teacher_forced(folder: Path, utterance: str, tokens: list[int], ctc_weight: float) -> float:
    """The score of tokens and eos under the model and the memory of a work."""
    model: Any = build(json.loads((folder / "work.json").read_text())["model"])
    model.load_state_dict(load_file(folder / "model.safetensors"))
    states = load_file(folder / "memory.safetensors")[utterance].double()
    model, memory = model.double().eval(), Memory(states[None], torch.tensor([len(states)]))
    with torch.no_grad():
        steps = model.decoder(memory, torch.tensor([[BOS, *tokens]]))[0]
        attention = steps.gather(1, torch.tensor([*tokens, EOS]).unsqueeze(1)).sum()
        target = torch.tensor([tokens], dtype=torch.long)
        ctc = torch.nn.functional.ctc_loss(
            model.ctc(memory).transpose(0, 1), target, memory.lengths, torch.tensor([len(tokens)]), reduction="sum"
        )
    return float((1 - ctc_weight) * attention - ctc_weight * ctc)


@pytest.fixture(scope="module")
def random_run(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder with work and answers, and the record, of three utterances of which two are searched at once."""
    folder = tmp_path_factory.mktemp("random")
    spread = ["--utterances", 3, "--shortest", 0.5, "--longest", 1.5, "--batch-size", 2]
    out = folder / "record.json"
    run("decoding.py", "--data-root", data_root, *TINY, *spread, *NO_PEERS, "--keep", folder, "--out", out)
    return folder, json.loads(out.read_text())


@pytest.mark.parametrize(("name", "ctc_weight"), [("s2s", 0.3), ("s2s, attention alone", 0.0)])
def test_scores_are_those_of_teacher_forcing_and_lengths_the_given_ones(
    random_run: tuple[Path, dict[str, Any]], name: str, ctc_weight: float
) -> None:
    folder, _ = random_run
    work = json.loads((folder / "work.json").read_text())
    hypotheses = json.loads((folder / f"{name}.json").read_text())["hypotheses"]
    lengths = {utterance["id"]: utterance["length"] for utterance in work["utterances"]}
    assert sorted(lengths.values()) == [3, 6, 9]
    assert {hypothesis["id"]: len(hypothesis["tokens"]) for hypothesis in hypotheses} == lengths
    for hypothesis in hypotheses:
        expected = teacher_forced(folder, hypothesis["id"], hypothesis["tokens"], ctc_weight)
        assert hypothesis["score"] == pytest.approx(expected, abs=1e-3)


def test_the_record_says_what_was_measured_and_how(random_run: tuple[Path, dict[str, Any]]) -> None:
    _, record = random_run
    run = record["runs"]["s2s"]
    assert run["utterances"] == 3
    assert run["audio_seconds"] == pytest.approx(3.0)
    assert run["real_time_factor"] == pytest.approx((run["search_seconds"] + run["encoder_seconds"]) / 3.0, rel=1e-2)
    assert record["claims"]["s2s: search / encoder"] == pytest.approx(
        run["search_seconds"] / run["encoder_seconds"], rel=1e-2
    )
    assert {"machine", "threads", "command", "date", "commit"} <= record.keys()
    assert {"versions", "settings", "peak_rss_mb"} <= run.keys()


def test_a_trained_bundle_ends_where_it_likes_and_a_peer_that_is_missing_is_left_out(
    data_root: Path, tmp_path: Path
) -> None:
    bundle = toy_bundle()
    bundle.save(tmp_path / "bundle")
    (tmp_path / "data").mkdir()
    for digit in range(3):
        shutil.copy(data_root / "fsdd" / "recordings" / f"{digit}_george_0.flac", tmp_path / "data")
    (tmp_path / "data" / "wav.scp").write_text("".join(f"u{digit} {digit}_george_0.flac\n" for digit in range(3)))
    options = ["--utterances", 2, "--threads", 1, "--repeats", 1, "--beam-size", 3, "--peers", tmp_path / "none"]
    places = ["--bundle", tmp_path / "bundle", "--data", tmp_path / "data", "--out", tmp_path / "record.json"]
    without = ["--without", "speechbrain,transformers"]
    run("decoding.py", *options, *places, *without, "--keep", tmp_path / "work")
    record = json.loads((tmp_path / "record.json").read_text())
    assert "setup.sh" in record["runs"]["espnet"]["left_out"]
    assert "transformers" not in record["runs"]
    hypotheses = json.loads((tmp_path / "work" / "s2s.json").read_text())["hypotheses"]
    assert {hypothesis["id"] for hypothesis in hypotheses} == {"u0", "u1"}
    for hypothesis in hypotheses:
        expected = teacher_forced(tmp_path / "work", hypothesis["id"], hypothesis["tokens"], 0.3)
        assert hypothesis["score"] == pytest.approx(expected, abs=1e-3)


def test_costs_are_measured_along_every_axis_and_the_frame_loop_agrees(data_root: Path, tmp_path: Path) -> None:
    point = ["--batch-size", 2, "--seconds", 1, "--stream", 4]
    axes = ["--beam-sizes", 1, 3, "--batch-sizes", 1, 2, "--lengths", 0.5, 1, "--vocab-sizes", 20, 30]
    out, plot = tmp_path / "costs.json", tmp_path / "costs.png"
    run("decoding_costs.py", "--data-root", data_root, *TINY, *point, *axes, "--out", out, "--plot", plot)
    record = json.loads(out.read_text())
    axes_found = record["seconds_per_utterance"]
    assert [point["beam_size"] for point in axes_found["beam_size"]] == [1, 3]
    assert axes_found.keys() == {"beam_size", "batch_size", "seconds", "vocab_size"}
    base = [next(p for p in points if p[axis] == record["base"][axis]) for axis, points in axes_found.items()]
    assert len({point["search_seconds"] for point in base}) == 1  # the point that the axes share is measured once
    assert 0 < record["profile"]["matrix_products"] < 1
    assert len(record["profile"]["dearest"]) == 10
    assert len(record["ctc_prefix_scores"]) == 3  # the script raises where the two differ
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [([], "S2S_DATA"), (["--bundle", "nowhere", "--data", "nowhere"], "nowhere: not a bundle")],
)
def test_what_is_missing_is_named_without_a_traceback(arguments: list[str], expected: str, tmp_path: Path) -> None:
    command = [sys.executable, str(BENCHMARKS / "decoding.py"), "--data-root", str(tmp_path), *TINY, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert expected in done.stderr
