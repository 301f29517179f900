"""Many processes: the training of one with as much in a batch, saved by so many and resumed by others."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from s2s.errors import UserError
from s2s.training.checkpoint import Progress, latest_training
from s2s.training.config import load_train_config
from s2s.training.loop import Trainer

NO_CHANCE = [
    "model.encoder.dropout=0",
    "model.decoder.dropout=0",
    "data.speed_perturb=[1.0]",
    "features.dither=0",
    "spec_augment.num_freq_masks=0",
    "spec_augment.num_time_masks=0",
]
TRAIN = ["-m", "s2s.cli.main", "train"]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *TRAIN]


def started(launcher: list[str], folder: Path, options: list[str]) -> str:
    command = [sys.executable, *launcher, f"exp_dir={folder}", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def saved(folder: Path) -> Path:
    found = latest_training(folder / "states")
    assert found is not None
    return found


def losses(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("launcher", "options"),
    [(TRAIN, ["training.devices=2", "training.strategy=ddp"]), (TORCHRUN, ["training.strategy=fsdp"])],
    ids=["ddp", "fsdp by torchrun"],
)
def test_two_processes_train_as_one_with_twice_the_batch(
    launcher: list[str], options: list[str], tiny: list[str], tmp_path: Path
) -> None:
    own = [*tiny, *NO_CHANCE, "training.max_epochs=1"]
    out = started(launcher, tmp_path / "two", [*own, *options, "data.max_batch_size=24"])
    assert "2 x cpu" in out
    assert out.count("epoch 1/1") == 1  # one of them speaks
    Trainer(load_train_config("train", [f"exp_dir={tmp_path / 'one'}", *own, "data.max_batch_size=48"]), print).run()
    one, two = losses(tmp_path / "one")[0], losses(tmp_path / "two")[0]
    assert two["steps"] == one["steps"] == 1
    for key in ("train_loss", "valid_loss", "train_ctc", "train_attention"):
        assert two[key] == pytest.approx(one[key], rel=1e-3)
    ours, theirs = (load_file(saved(tmp_path / each) / "model.safetensors") for each in ("one", "two"))
    rate = one["learning_rate"]
    for name, tensor in ours.items():
        if tensor.dtype.is_floating_point and "running" not in name:
            # Adam's first step is the rate with the sign of the gradient: those near zero may differ
            same = torch.isclose(tensor, theirs[name], rtol=1e-3, atol=0.1 * rate)
            assert same.float().mean() > 0.97, name

    if "fsdp" in options[0]:  # two shards, gone on with by one process
        more = [*own, "training.strategy=fsdp", "data.max_batch_size=48", "training.max_epochs=2"]
        out = started(TRAIN, tmp_path / "two", more)
        assert "resuming from" in out
        assert [record["steps"] for record in losses(tmp_path / "two")] == [1, 2]
        Trainer(load_train_config("train", [f"exp_dir={tmp_path / 'one'}", *more, "training.strategy=auto"])).run()
        assert losses(tmp_path / "two")[1]["train_loss"] == pytest.approx(
            losses(tmp_path / "one")[1]["train_loss"], rel=1e-2
        )
        with pytest.raises(UserError, match=r"training\.strategy=auto: it was saved by training\.strategy=fsdp"):
            Trainer(load_train_config("train", [f"exp_dir={tmp_path / 'two'}", *more, "training.strategy=auto"]))


def test_progress_remembers_who_did_what_of_an_epoch() -> None:
    at = Progress(epoch=2, batches=5, world_size=2)
    at.on(2)
    assert (at.stretches, at.own_batches) == ([], 5)
    at.on(3)
    assert (at.stretches, at.own_batches) == ([(2, 5)], 0)
    at.batches += 4
    at.on(1)
    assert (at.stretches, at.own_batches, at.batches) == ([(2, 5), (3, 4)], 0, 9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["training.strategy=tensor"], r"training\.strategy=tensor: expected one of auto, ddp, .*fsdp"),
        (["training.num_nodes=0"], r"training\.num_nodes=0: expected at least 1"),
        (["training.accelerator=tpu"], r"training\.accelerator=tpu, .*`s2s info`"),
    ],
)
def test_what_cannot_be_started_is_named(options: list[str], message: str, tiny: list[str], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        Trainer(load_train_config("train", [f"exp_dir={tmp_path}", *tiny, *options]))
