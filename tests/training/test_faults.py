"""What a training survives, each with the real thing: kills, a full disk, files that break, signals."""

from __future__ import annotations

import multiprocessing
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from toy import toy_bundle

from s2s.errors import UserError
from s2s.models.bundle import load_bundle
from s2s.training.checkpoint import Progress, latest_training, load_training, save_training
from s2s.training.config import load_train_config
from s2s.training.loop import Trainer


def saving(states: str, first: int) -> None:
    """Save for ever, a state after another."""
    bundle = toy_bundle()
    for batches in range(first, 10**6):
        save_training(Path(states), bundle, {"optimizer": {"step": batches}}, Progress(batches=batches))


def test_a_kill_at_any_moment_of_a_save_leaves_a_whole_state(tmp_path: Path) -> None:
    chance = random.Random(1)
    newest = halves = 0
    for _ in range(12):
        process = multiprocessing.get_context("fork").Process(target=saving, args=(str(tmp_path), newest + 1))
        process.start()
        while (
            latest_training(tmp_path) is None or latest_training(tmp_path).name < f"epoch-0001-batch-{newest + 1:06d}"
        ):
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.1))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        saved = latest_training(tmp_path)
        assert saved is not None
        weights, kept, progress = load_training(saved)
        assert weights
        assert kept["optimizer"]["step"] == progress.batches > 0
        load_bundle(saved)
        newest = progress.batches
        halves += any(path.name.startswith(".") for path in tmp_path.iterdir())
    assert halves  # some kills came in the middle
    save_training(tmp_path, toy_bundle(), {}, Progress(epoch=1))
    assert [path.name for path in tmp_path.iterdir()] == ["epoch-0002-batch-000000"]  # all halves are gone


def trainer(folder: Path, options: list[str], said: list[str]) -> Trainer:
    return Trainer(load_train_config("train", [f"exp_dir={folder}", *options]), said.append)


def test_a_full_disk_is_said_and_what_was_saved_goes_on(tiny: list[str], tmp_path: Path) -> None:
    first = trainer(tmp_path, [*tiny, "training.save_minutes=0"], [])
    step, steps = first._step, 0
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def step_then_fill() -> bool:
        nonlocal steps
        steps += 1
        if steps == 6:
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))  # no file grows beyond 4 kB
        return step()

    first._step = step_then_fill  # type: ignore[method-assign]
    try:
        with pytest.raises(
            UserError, match=r"batch-000002: cannot be written .*free some space.*-batch-000001"
        ) as caught:
            first.run()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "Traceback" not in str(caught.value)
    assert [path.name for path in (tmp_path / "states").iterdir()] == ["epoch-0002-batch-000001"]
    said: list[str] = []
    trainer(tmp_path, tiny, said).run()
    assert any("resuming" in line and "epoch 2, batch 2" in line for line in said)
    assert any(line.startswith("done after 3 epochs, 12 steps") for line in said)


def breaking(digits: Path, folder: Path, number: int) -> list[Path]:
    """A copy of the training data in which so many recordings can be broken."""
    folder.mkdir()
    for name in ("text", "utt2spk"):
        (folder / name).write_text((digits / "train" / name).read_text())
    lines = [line.split() for line in (digits / "train" / "wav.scp").read_text().splitlines()]
    copies = []
    for row in lines[:number]:
        copies.append(folder / f"{row[0]}.flac")
        copies[-1].write_bytes(Path(row[1]).read_bytes())
        row[1] = str(copies[-1])
    (folder / "wav.scp").write_text("".join(f"{' '.join(row)}\n" for row in lines))
    return copies


def test_recordings_that_break_in_mid_epoch_are_named_counted_and_in_the_end_fatal(
    digits: Path, tiny: list[str], tmp_path: Path
) -> None:
    copies = breaking(digits, tmp_path / "data", 3)
    options = [*tiny, f"data.train=[{tmp_path / 'data'}]", "training.max_epochs=1"]
    said: list[str] = []
    one = trainer(tmp_path / "exp", [*options, "data.max_bad_audio=3"], said)
    other = trainer(tmp_path / "other", [*options, "data.max_bad_audio=2"], [])
    for copy in copies:
        copy.write_bytes(b"no sound")
    one.run()
    named = " ".join(line for line in said if line.startswith("skipped"))
    assert all(copy.stem in named and f"{tmp_path / 'data'}/wav.scp:" in named for copy in copies)
    assert (tmp_path / "exp" / "checkpoints" / "epoch-0001").is_dir()
    with pytest.raises(UserError, match=r"3 utterances could not be read .* data\.max_bad_audio=2; the last: "):
        other.run()


def test_sigterm_saves_and_exits_with_the_code_to_try_again(tiny: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "s2s.cli.main", "train", f"exp_dir={tmp_path}", *tiny, "training.max_epochs=9999"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 100
    while time.monotonic() < until and process.poll() is None and not (tmp_path / "metrics.jsonl").exists():
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 75, err
    assert "run the same command again" in out
    assert "Traceback" not in err
    saved = latest_training(tmp_path / "states")
    assert saved is not None
    progress = load_training(saved)[2]
    assert progress.steps == 4 * progress.epoch + progress.batches


def test_a_signal_in_validation_saves_before_it(tiny: list[str], tmp_path: Path) -> None:
    from s2s.training.interrupt import TrainingInterrupt

    one = trainer(tmp_path, tiny, [])
    batches = one.task.validation_batches

    def interrupted() -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return batches()

    one.task.validation_batches = interrupted  # type: ignore[method-assign]
    with pytest.raises(TrainingInterrupt):
        one.run()
    assert [path.name for path in (tmp_path / "states").iterdir()] == ["epoch-0001-batch-000004"]
    said: list[str] = []
    trainer(tmp_path, tiny, said).run()
    assert any(line.startswith("done after 3 epochs, 12 steps") for line in said)
