"""The training loop."""

from __future__ import annotations

import math
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning_fabric import Fabric
from torch.utils.tensorboard import SummaryWriter

from s2s.data.batch import Batch
from s2s.errors import UserError
from s2s.files import replacing
from s2s.models.bundle import read_config
from s2s.training.begin import take_weights
from s2s.training.checkpoint import Progress, latest_training, load_training, save_training
from s2s.training.config import LoopConfig, TrainConfig, plain, show
from s2s.training.curves import draw_curves, read_metrics, write_metrics
from s2s.training.freeze import freeze, learning_parameters
from s2s.training.schedule import learning_rate_factor
from s2s.training.show import Display
from s2s.training.tasks import make_task


class TrainingInterrupt(Exception):
    """Training was stopped by a signal after its state was saved."""


class Trainer:
    """Trains the model of a config in `exp_dir`, from where it stopped if it did.

    The folder holds `checkpoints/epoch-*` (the best bundles), `states/` (what to resume from), `metrics.jsonl`,
    `curves.png`, `tensorboard/` and `train.yaml`. Every batch seeds its own chance with (seed, epoch, batch), so a
    training that was killed and resumed is the training that was not.
    """

    def __init__(self, config: TrainConfig, say: Callable[[str], None] = print) -> None:
        self.config, self.loop = config, config.training
        self.folder = Path(config.exp_dir)
        self.fabric = _fabric(self.loop)
        self.fabric.launch()
        self.say = say = say if self.fabric.is_global_zero else _say_nothing
        self.task = make_task(config)
        self.bundle = self.task.bundle
        self.frozen_norms = freeze(self.bundle.model, self.loop.freeze)
        saved = latest_training(self.folder / "states")
        begun = take_weights(self.bundle, self.loop.init, say) if self.loop.init and not saved else set()
        self.task.load(say)
        self.at = Progress()
        self.records: list[dict[str, Any]] = []
        self.stop_signal: int | None = None
        self.bad_in_a_row = 0

        resumed = self._load(saved) if saved else None
        if resumed is None:
            self.task.start(begun)
        learning = learning_parameters(self.bundle.model)
        optimizer = torch.optim.AdamW(
            [{"params": list(learning.values()), "names": list(learning)}],
            config.optim.learning_rate,
            config.optim.betas,
            weight_decay=config.optim.weight_decay,
            fused=True,
        )
        self.model, self.optimizer = self.fabric.setup(self.bundle.model, optimizer)
        if resumed is not None:  # after the set-up, so that the optimiser's state follows the weights to their device
            self.optimizer.load_state_dict(resumed[0])
            self.fabric.strategy.precision.load_state_dict(resumed[1])

    def run(self) -> None:
        """Train to the end; Ctrl-C or SIGTERM saves and raises TrainingInterrupt."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with replacing(self.folder / "train.yaml") as beside:
            beside.write_text(show(self.config), encoding="utf-8")
        millions = sum(p.numel() for p in learning_parameters(self.bundle.model).values()) / 1e6
        frozen = sum(p.numel() for p in self.bundle.model.parameters()) / 1e6 - millions
        self.say(
            f"training {millions:.2f} M parameters{f', {frozen:.2f} M frozen,' if frozen else ''} on "
            f"{self.task.described()}; {self.fabric.device}, {self.loop.precision}"
        )
        handlers = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        self.last_save = self.clock = time.monotonic()
        self.board = SummaryWriter(str(self.folder / "tensorboard"), purge_step=self.at.steps + 1)
        try:
            while self.at.epoch < self.loop.max_epochs and not self._enough():
                self._epoch()
                if self.stop_signal is not None:
                    raise TrainingInterrupt
        finally:
            self.board.close()
            for number, handler in handlers.items():
                signal.signal(number, handler)
        if self.records and self.fabric.is_global_zero:
            draw_curves(self.records, self.folder / "curves.png")
        if self.at.best:
            loss, epoch = self.at.best[0]
            self.say(
                f"done after {self.at.epoch} epochs, {self.at.steps} steps, {self.at.seconds / 60:.1f} min; best "
                f"validation loss {loss:.4f} in epoch {epoch}; curves in {self.folder / 'curves.png'}"
            )

    def _epoch(self) -> None:
        batches = self.task.training_batches(
            self.at.epoch, self.at.batches, self.fabric.global_rank, self.fabric.world_size
        )
        expected = self.at.batches + len(batches)
        if self.at.total_steps == 0:
            self.at.total_steps = math.ceil(expected / self.loop.accumulate) * self.loop.max_epochs
        with Display(self.at.epoch + 1, self.loop.max_epochs, self.at.batches, expected) as display:
            self.model.train()
            for norm in self.frozen_norms:
                norm.eval()
            self.optimizer.zero_grad()
            for batch in batches:
                last = self.at.batches + 1 == expected
                self._train_on(self.fabric.to_device(batch), last)
                display.advance(self._mean("loss"), self.optimizer.param_groups[0]["lr"])
                if self._between_steps(last) and not last:
                    self._save_if_due()
            valid = display.track(self.task.validation_batches(), "validating")
            with self.fabric.autocast():
                measured = self.task.validate(valid, self.fabric.to_device)
        self._end_of_epoch(*measured)

    def _train_on(self, batch: Batch, last: bool) -> None:
        """One batch: gradients, and at the end of an accumulation a step."""
        self.at.batches += 1
        if batch.skipped:
            self.say(f"skipped, its audio cannot be read: {'; '.join(batch.skipped)}")
        seed = (
            (self.loop.seed * 1_000_003 + self.at.epoch) * 1_000_003 + self.at.batches * 1009 + self.fabric.global_rank
        )
        torch.manual_seed(seed % 2**63)
        boundary = self._between_steps(last)
        finite = True
        if len(batch):
            with self.fabric.no_backward_sync(self.model, enabled=not boundary):
                losses = self.task.losses(self.model, batch, seed % 2**63)
                finite = bool(losses.total.isfinite())
                if finite:
                    self.fabric.backward(losses.total / self.loop.accumulate)
                    self._count(loss=losses.total, **losses.parts)
        if boundary and finite:
            finite = self._step()
        if not finite:
            self._skip_bad(batch)
        elif len(batch):
            self.bad_in_a_row = 0

    def _step(self) -> bool:
        """One step of the optimiser, unless a gradient is not finite: then the gradients are dropped."""
        self.at.steps += 1
        optim = self.config.optim
        factor = learning_rate_factor(optim.schedule, self.at.steps, optim.warmup_steps, self.at.total_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = optim.learning_rate * factor
        norm = self.fabric.clip_gradients(
            self.model, self.optimizer, max_norm=optim.clip_norm, error_if_nonfinite=False
        )
        scaled = self.loop.precision == "16-mixed"  # its scaler looks for overflows by itself, and expects some
        finite = scaled or bool(norm.isfinite())  # type: ignore[union-attr]
        if finite:
            self.optimizer.step()
        self.optimizer.zero_grad()
        if self.at.steps % 10 == 0:
            for name in self._losses():
                self.board.add_scalar(f"train/{name}", self._mean(name), self.at.steps)
            self.board.add_scalar("train/learning_rate", self.optimizer.param_groups[0]["lr"], self.at.steps)
            self.board.add_scalar("train/gradient_norm", float(norm), self.at.steps)  # type: ignore[arg-type]
        return finite

    def _skip_bad(self, batch: Batch) -> None:
        self.optimizer.zero_grad()
        self.at.bad_batches += 1
        self.bad_in_a_row += 1
        named = ", ".join(batch.ids[:3]) + (", ..." if len(batch) > 3 else "")
        self.say(f"epoch {self.at.epoch + 1}, batch {self.at.batches}: loss or gradient not finite, skipped ({named})")
        if self.bad_in_a_row >= self.loop.max_bad_batches:
            raise UserError(
                f"{self.bad_in_a_row} batches in a row had a loss or gradient that is not finite, the last {named}: "
                "lower optim.learning_rate or optim.clip_norm, or check these recordings. "
                f"{self.folder / 'states'} has the last good state"
            )

    def _end_of_epoch(self, valid_loss: float, valid_error: float) -> None:
        self.at.epoch += 1
        now = time.monotonic()
        self.at.seconds += now - self.clock
        self.clock = now
        best = self.at.best[0][0] if self.at.best else math.inf
        self.at.epochs_since_best = 0 if valid_loss < best else self.at.epochs_since_best + 1
        record = {
            "epoch": self.at.epoch,
            "steps": self.at.steps,
            **{f"train_{name}": self._mean(name) for name in self._losses()},
            "valid_loss": valid_loss,
            f"valid_{self.task.error_name}": valid_error,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "seconds": round(self.at.seconds, 1),
        }
        self.records.append(record)
        self.board.add_scalar("valid/loss", valid_loss, self.at.steps)
        self.board.add_scalar(f"valid/{self.task.error_name}", valid_error, self.at.steps)
        self.say(
            f"epoch {self.at.epoch}/{self.loop.max_epochs}: train loss {record['train_loss']:.4f}, "
            f"valid loss {valid_loss:.4f}, {self.task.error_title} {100 * valid_error:.2f} %, "
            f"{self.at.seconds / 60:.1f} min"
        )
        self.at.batches, self.at.sums = 0, {}
        if math.isfinite(valid_loss):
            self._keep(valid_loss)
        if self.fabric.is_global_zero:
            write_metrics(self.folder / "metrics.jsonl", self.records)
        self._save()

    def _keep(self, valid_loss: float) -> None:
        """Keep this epoch's bundle if it is among the best or the last."""
        checkpoints = self.folder / "checkpoints"
        self.at.best = sorted([*self.at.best, (valid_loss, self.at.epoch)])[: self.loop.keep_best]
        if not self.fabric.is_global_zero:
            return
        kept = {f"epoch-{epoch:04d}" for _, epoch in self.at.best}
        kept |= {f"epoch-{epoch:04d}" for epoch in range(self.at.epoch - self.loop.keep_last + 1, self.at.epoch + 1)}
        if f"epoch-{self.at.epoch:04d}" in kept:
            self.bundle.save(checkpoints / f"epoch-{self.at.epoch:04d}")
        for old in checkpoints.glob("epoch-*"):
            if old.name not in kept:
                shutil.rmtree(old)

    def _enough(self) -> bool:
        if self.loop.patience and self.at.epochs_since_best >= self.loop.patience:
            self.say(f"no better validation loss for {self.at.epochs_since_best} epochs: stopping early")
            return True
        return False

    def _between_steps(self, last: bool) -> bool:
        return last or self.at.batches % self.loop.accumulate == 0

    def _count(self, **losses: torch.Tensor) -> None:
        self.at.sums["batches"] = self.at.sums.get("batches", 0) + 1
        for name, loss in losses.items():
            self.at.sums[name] = self.at.sums.get(name, 0.0) + float(loss.detach())

    def _losses(self) -> list[str]:
        """The names of all losses, those that every model has first."""
        names = dict.fromkeys(("loss", *self.task.loss_names, *self.at.sums))
        return [name for name in names if name != "batches"]

    def _mean(self, name: str) -> float:
        return self.at.sums.get(name, 0.0) / max(1.0, self.at.sums.get("batches", 0))

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.stop_signal is not None:
            raise KeyboardInterrupt  # a second Ctrl-C does not wait for the batch to end
        self.stop_signal = number
        self.say("stopping after this batch (Ctrl-C again stops at once, losing what was done since the last save)")

    def _save_if_due(self) -> None:
        if self.stop_signal is not None:
            self._save()
            raise TrainingInterrupt
        if time.monotonic() - self.last_save > 60 * self.loop.save_minutes:
            self._save()

    def _save(self) -> None:
        now = time.monotonic()
        self.at.seconds += now - self.clock
        self.last_save = self.clock = now
        scaler = self.fabric.strategy.precision.state_dict()
        if self.fabric.is_global_zero:
            save_training(self.folder / "states", self.bundle, self.optimizer.state_dict(), scaler, self.at)

    def _load(self, saved: Path) -> tuple[dict[str, Any], dict[str, Any]]:
        """Take up weights and progress; optimiser and scaler state are for the caller to load."""
        if plain(read_config(saved, (self.task.key,))[self.task.key]) != plain(dict(self.bundle.model_config)):
            raise UserError(
                f"{saved}: holds another model than the config describes; go on with the same model options, "
                "or start anew with another exp_dir"
            )
        weights, optimizer, scaler, self.at = load_training(saved)
        every = [name for name, _ in self.bundle.model.named_parameters()]  # what was saved without names
        if optimizer["param_groups"][0].get("names", every) != list(learning_parameters(self.bundle.model)):
            raise UserError(
                f"{saved}: other parameters were frozen than with training.freeze={list(self.loop.freeze)}; go on with "
                "the same ones, or begin anew with another exp_dir and training.init"
            )
        self.bundle.model.load_state_dict(weights)
        self.records = read_metrics(self.folder / "metrics.jsonl")[: self.at.epoch]
        self.say(f"resuming from {saved}: epoch {self.at.epoch + 1}, batch {self.at.batches + 1}")
        return optimizer, scaler


def _fabric(loop: LoopConfig) -> Fabric:
    try:
        return Fabric(accelerator=loop.accelerator, devices=loop.devices, precision=loop.precision)  # type: ignore[arg-type]
    except Exception as error:  # each accelerator has its own kind
        raise UserError(
            f"training.accelerator={loop.accelerator}, training.devices={loop.devices}, training.precision="
            f"{loop.precision}: {str(error).splitlines()[0]} `s2s info` lists this machine's devices"
        ) from error


def _say_nothing(text: str) -> None:
    """What every process but the first says."""
