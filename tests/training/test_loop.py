from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from s2s.errors import UserError
from s2s.training.checkpoint import latest_training, load_training
from s2s.training.config import load_train_config
from s2s.training.interrupt import TrainingInterrupt
from s2s.training.loop import Trainer


def train(folder: Path, overrides: list[str]) -> list[str]:
    said: list[str] = []
    Trainer(load_train_config("train", [f"exp_dir={folder}", *overrides]), said.append).run()
    return said


def metrics(folder: Path) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in record.items() if "seconds" not in key} for record in records]


def final_weights(folder: Path) -> dict[str, torch.Tensor]:
    saved = latest_training(folder / "states")
    assert saved is not None
    return load_file(saved / "model.safetensors")


def first_moments(folder: Path) -> dict[int, torch.Tensor]:
    saved = latest_training(folder / "states")
    assert saved is not None
    return {number: state["exp_avg"] for number, state in load_training(saved)[1]["optimizer"]["state"].items()}


def assert_same_training(folder: Path, other: Path) -> None:
    assert metrics(folder) == metrics(other)
    ours, theirs = final_weights(folder), final_weights(other)
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name


@pytest.fixture(scope="module")
def whole(tiny: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training that was never stopped."""
    folder = tmp_path_factory.mktemp("whole")
    train(folder, tiny)
    return folder


def test_training_lowers_the_loss_and_leaves_what_it_promises(whole: Path) -> None:
    records = metrics(whole)
    assert [record["epoch"] for record in records] == [1, 2, 3]
    assert [record["steps"] for record in records] == [4, 8, 12]
    assert records[-1]["train_loss"] < records[0]["train_loss"]
    assert (whole / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert list((whole / "tensorboard").iterdir())
    assert (whole / "train.yaml").is_file()
    assert len(list((whole / "checkpoints").glob("epoch-*"))) == 3


def test_losses_of_intermediate_layers_are_measured_and_a_stopped_training_goes_on(
    tiny: list[str], tmp_path: Path
) -> None:
    options = [
        *tiny,
        "model.encoder.num_layers=2",
        "model.decoder.num_layers=2",
        "model.intermediate_ctc={layers: [1], weight: 0.3, self_conditioned: true}",
        "model.decoder.classifiers={layers: [1], weights: [0.4]}",
        "training.max_epochs=1",
    ]
    train(tmp_path / "one", options)
    record = metrics(tmp_path / "one")[0]
    shares = {"train_ctc_last": 0.7, "train_ctc_intermediate": 0.3}
    assert record["train_ctc"] == pytest.approx(sum(share * record[key] for key, share in shares.items()))
    assert record["train_loss"] == pytest.approx(0.3 * record["train_ctc"] + 0.7 * record["train_attention"])
    assert {"train_attention_layer_1", "train_attention_mixed"} < record.keys()
    before = train(tmp_path / "one", [*options, "training.max_epochs=2"])
    assert any("resuming" in line for line in before)
    train(tmp_path / "both", [*options, "training.max_epochs=2"])
    assert [sorted(each) for each in metrics(tmp_path / "both")] == [sorted(record)] * 2


def test_the_same_seed_gives_the_same_training_and_another_seed_another(
    whole: Path, tiny: list[str], tmp_path: Path
) -> None:
    train(tmp_path / "same", tiny)
    assert_same_training(tmp_path / "same", whole)
    train(tmp_path / "other", [*tiny, "training.seed=2"])
    assert metrics(tmp_path / "other")[0]["train_loss"] != metrics(whole)[0]["train_loss"]


def test_a_training_that_was_killed_goes_on_as_if_it_had_not_been(whole: Path, tiny: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "s2s.cli.main", "train", f"exp_dir={tmp_path}", *tiny, "training.save_minutes=0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    until = time.monotonic() + 120
    while time.monotonic() < until and process.poll() is None:
        saved = latest_training(tmp_path / "states") if (tmp_path / "states").is_dir() else None
        if saved is not None and saved.name >= "epoch-0002-batch-000001":
            break
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    output = process.communicate()[0].decode()
    assert process.returncode == -signal.SIGKILL, output
    said = train(tmp_path, tiny)
    assert any(line.startswith("resuming from") for line in said)
    assert_same_training(tmp_path, whole)
    assert len(list((tmp_path / "states").iterdir())) == 1  # what the kill left half-written is gone


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_the_training_goes_on_from_there(
    whole: Path, tiny: list[str], tmp_path: Path, number: signal.Signals
) -> None:
    trainer = Trainer(load_train_config("train", [f"exp_dir={tmp_path}", *tiny]), lambda text: None)
    step, steps = trainer._step, 0

    def step_then_signal() -> bool:
        nonlocal steps
        steps += 1
        if steps == 6:
            os.kill(os.getpid(), number)
        return step()

    trainer._step = step_then_signal  # type: ignore[method-assign]
    with pytest.raises(TrainingInterrupt):
        trainer.run()
    assert steps == 6
    assert signal.getsignal(number) != trainer.interrupts._on_signal
    train(tmp_path, tiny)
    assert_same_training(tmp_path, whole)


def test_accumulated_batches_give_the_gradients_of_one_batch_as_large(tiny: list[str], tmp_path: Path) -> None:
    no_chance = ["model.encoder.dropout=0", "model.decoder.dropout=0", "data.speed_perturb=[1.0]"]
    no_chance += ["spec_augment.num_freq_masks=0", "spec_augment.num_time_masks=0", "training.max_epochs=1"]
    train(tmp_path / "accumulated", [*tiny, *no_chance, "training.accumulate=4"])
    assert metrics(tmp_path / "accumulated")[0]["steps"] == 1
    train(tmp_path / "plain", [*tiny, *no_chance, "data.max_batch_size=48"])
    assert metrics(tmp_path / "plain")[0]["steps"] == 1
    # Every string is two words, so equal batches weigh every token alike. Adam's first moment is the gradient.
    one, other = first_moments(tmp_path / "accumulated"), first_moments(tmp_path / "plain")
    assert one.keys() == other.keys()
    for number, moment in one.items():
        torch.testing.assert_close(moment, other[number], rtol=1e-3, atol=1e-6)


def test_mixed_precision_trains_and_keeps_full_precision_weights(tiny: list[str], tmp_path: Path) -> None:
    train(tmp_path, [*tiny, "training.precision=bf16-mixed"])
    records = metrics(tmp_path)
    assert records[-1]["train_loss"] < records[0]["train_loss"]
    assert all(tensor.dtype == torch.float32 for tensor in final_weights(tmp_path).values())


def test_only_the_best_checkpoints_are_kept(tiny: list[str], tmp_path: Path) -> None:
    train(tmp_path, [*tiny, "training.keep_best=1"])
    records = metrics(tmp_path)
    best = min(records, key=lambda record: record["valid_loss"])["epoch"]
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == [f"epoch-{best:04d}"]


def test_training_stops_early_when_validation_does_not_improve(tiny: list[str], tmp_path: Path) -> None:
    said = train(tmp_path, [*tiny, "optim.learning_rate=1e-12", "training.patience=2", "training.max_epochs=30"])
    assert any("stopping early" in line for line in said)
    assert len(metrics(tmp_path)) < 30


def test_a_loss_that_is_not_finite_is_skipped_counted_and_in_the_end_fatal(tiny: list[str], tmp_path: Path) -> None:
    said: list[str] = []
    trainer = Trainer(load_train_config("train", [f"exp_dir={tmp_path}", *tiny]), said.append)
    forward, calls = trainer.bundle.model.forward, 0

    def sometimes_nan(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        losses = forward(*arguments)
        return losses._replace(total=losses.total * float("nan")) if calls in (2, 3) else losses

    trainer.bundle.model.forward = sometimes_nan  # type: ignore[method-assign]
    trainer.run()
    assert trainer.at.bad_batches == 2
    assert sum("not finite, skipped" in line for line in said) == 2
    assert all(tensor.isfinite().all() for tensor in final_weights(tmp_path).values())

    with pytest.raises(UserError, match=r"3 batches in a row .* optim\.learning_rate"):
        train(tmp_path / "bad", [*tiny, "optim.learning_rate=1e30", "training.max_bad_batches=3"])


def test_another_model_is_not_resumed_into(whole: Path, tiny: list[str]) -> None:
    with pytest.raises(UserError, match="holds another model than the config describes"):
        train(whole, [*tiny, "model.encoder.num_layers=2"])


def test_a_finished_training_is_left_as_it_is(whole: Path, tiny: list[str]) -> None:
    before = metrics(whole)
    train(whole, tiny)
    assert metrics(whole) == before


def test_problems_in_the_data_stop_training_or_are_skipped_aloud(digits: Path, tiny: list[str], tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    bad.mkdir()
    for name in ("wav.scp", "text", "utt2spk"):
        (bad / name).write_text((digits / "train" / name).read_text())
    with (bad / "wav.scp").open("a") as file:
        file.write("zz-gone /nowhere/gone.flac\n")
    with (bad / "text").open("a") as file:
        file.write("zz-gone one\n")
    (tmp_path / "silent").mkdir()
    (tmp_path / "silent" / "wav.scp").write_text((digits / "dev" / "wav.scp").read_text())
    with pytest.raises(UserError, match=r"(?s)wav\.scp:1: .*\[no_text\]"):
        train(tmp_path / "exp", [*tiny, f"data.valid=[{tmp_path / 'silent'}]"])
    override = f"data.train=[{bad}]"
    with pytest.raises(UserError, match=r"(?s)wav\.scp:49.*zz-gone.*data\.skip=\["):
        train(tmp_path / "exp", [*tiny, override])
    said = train(tmp_path / "exp", [*tiny, override, "data.skip=[missing_audio]", "training.max_epochs=1"])
    assert any("48 utterances, 1 left out (1 missing_audio)" in line for line in said)
