"""The exponential moving average of weights: what it is, where it is used, and that nothing of it is lost."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from s2s.errors import UserError
from s2s.training.checkpoint import latest_training, load_training
from s2s.training.config import load_train_config
from s2s.training.interrupt import TrainingInterrupt
from s2s.training.loop import Trainer
from s2s.training.moving_average import MovingAverage


def test_it_is_the_recurrence_and_leaves_the_weights_alone() -> None:
    torch.manual_seed(0)
    model = nn.Linear(2, 3).double()
    model.bias.requires_grad_(False)
    average = MovingAverage(model, 0.6)
    expected = model.weight.detach().clone()
    for steps in range(1, 12):
        with torch.no_grad():
            model.weight.copy_(torch.randn(3, 2))
        average.update(steps)
        decay = min(0.6, (1 + steps) / (10 + steps))
        expected = decay * expected + (1 - decay) * model.weight
    assert set(average.averages) == {"weight"}
    torch.testing.assert_close(average.averages["weight"], expected.detach())
    learned = model.weight.detach().clone()
    with average.in_place():
        torch.testing.assert_close(model.weight.detach(), expected.detach())
        with average.in_place(False):
            assert torch.equal(model.weight, learned)
        torch.testing.assert_close(model.weight.detach(), expected.detach())
    assert torch.equal(model.weight, learned)


def test_without_a_decay_there_is_none() -> None:
    model = nn.Linear(2, 2)
    average = MovingAverage(model, 0.0)
    before = model.weight.detach().clone()
    average.update(1)
    with average.in_place():
        assert torch.equal(model.weight, before)
    assert average.averages == {}


def make(folder: Path, tiny: list[str], *more: str) -> Trainer:
    options = [f"exp_dir={folder}", *tiny, "training.max_epochs=2", *more]
    return Trainer(load_train_config("train", options), lambda text: None)


def test_checkpoints_hold_the_average_and_states_both(tiny: list[str], tmp_path: Path) -> None:
    """The learned weights, and so the whole training, are those without an average."""
    make(tmp_path / "plain", tiny).run()
    make(tmp_path / "averaged", tiny, "training.ema_decay=0.9").run()
    states = [latest_training(tmp_path / name / "states") for name in ("plain", "averaged")]
    learned = [load_file(state / "model.safetensors") for state in states if state]
    assert learned[0].keys() == learned[1].keys()
    assert all(torch.equal(learned[0][name], learned[1][name]) for name in learned[0])
    assert states[1] is not None
    average = load_training(states[1])[1]["average"]
    kept = load_file(tmp_path / "averaged/checkpoints/epoch-0002/model.safetensors")
    assert all(torch.equal(kept[name], average[name]) for name in average)
    assert not torch.equal(kept["decoder.out.weight"], learned[1]["decoder.out.weight"])


def test_stopped_while_it_is_validated_it_goes_on_as_if_it_had_not_been(
    tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("training.ema_decay=0.9",)
    make(tmp_path / "whole", tiny, *options).run()
    trainer = make(tmp_path / "stopped", tiny, *options)
    batches = trainer.task.validation_batches

    def stopping():  # type: ignore[no-untyped-def]
        for batch in batches():
            os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    monkeypatch.setattr(trainer.task, "validation_batches", lambda: _Sized(stopping(), len(batches())))
    with pytest.raises(TrainingInterrupt):
        trainer.run()
    make(tmp_path / "stopped", tiny, *options).run()
    whole, stopped = (latest_training(tmp_path / name / "states") for name in ("whole", "stopped"))
    assert whole is not None
    assert stopped is not None
    for ours, theirs in (
        (load_file(whole / "model.safetensors"), load_file(stopped / "model.safetensors")),
        (load_training(whole)[1]["average"], load_training(stopped)[1]["average"]),
    ):
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    with pytest.raises(UserError, match=r"training\.ema_decay=0: it was saved with an average"):
        make(tmp_path / "stopped", tiny)


class _Sized:
    def __init__(self, batches, length: int) -> None:  # type: ignore[no-untyped-def]
        self.batches, self.length = batches, length

    def __iter__(self):  # type: ignore[no-untyped-def]
        return self.batches

    def __len__(self) -> int:
        return self.length


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.ema_decay=1.0", r"training\.ema_decay=1\.0: expected 0 for none, or less than 1"),
        ("optim.gradient_noise=-1", r"optim\.gradient_noise=-1.*expected 0 for none, or more"),
        ("training.compile=fast", r"training\.compile=fast: expected null or one of inductor"),
    ],
)
def test_values_are_checked(tiny: list[str], tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make(tmp_path, tiny, override)
    with pytest.raises(UserError, match=r"fsdp: has neither training\.ema_decay nor optim\.gradient_noise"):
        make(tmp_path, tiny, "training.strategy=fsdp", "training.ema_decay=0.9")
