"""The training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.wrappers import _FabricOptimizer
from torch.distributed.tensor import DTensor
from torch.utils.tensorboard import SummaryWriter

from s2s.data.batch import Batch
from s2s.errors import UserError
from s2s.files import replacing
from s2s.training.begin import take_weights
from s2s.training.calibrate import size_batches
from s2s.training.checkpoint import Progress, latest_training
from s2s.training.config import TrainConfig, show
from s2s.training.curves import draw_curves, read_metrics, write_metrics
from s2s.training.devices import any_rank, described, make_fabric, mean_of_ranks, reshard, unshard
from s2s.training.freeze import freeze, learning_parameters
from s2s.training.gradient_noise import add_gradient_noise
from s2s.training.interrupt import Interrupts, TrainingInterrupt
from s2s.training.keeper import Keeper
from s2s.training.layers import compile_layers, recompute
from s2s.training.memory import in_parts, is_out_of_memory, keep_freed_memory
from s2s.training.moving_average import MovingAverage
from s2s.training.schedule import learning_rate_factor
from s2s.training.show import Display
from s2s.training.tasks import make_task


class Trainer:
    """Trains the model of a config in `exp_dir`, from where it stopped if it did.

    The folder holds `checkpoints/epoch-*` (the best bundles), `states/` (what to resume from), `metrics.jsonl`,
    `curves.png`, `tensorboard/` and `train.yaml`. Every batch seeds its own chance with (seed, epoch, batch), so a
    training that was killed and resumed is the training that was not. With many processes each has a part of every
    step, and only the first one speaks and writes, but for the shards of `strategy=fsdp`.
    """

    def __init__(self, config: TrainConfig, say: Callable[[str], None] = print) -> None:
        self.config, self.loop = config, config.training
        self.folder = Path(config.exp_dir)
        self.fabric = make_fabric(self.loop)
        self.fabric.launch()
        keep_freed_memory()
        self.say = say = say if self.fabric.is_global_zero else _say_nothing
        self.task = make_task(config)
        self.bundle = self.task.bundle
        self.frozen_norms = freeze(self.bundle.model, self.loop.freeze)
        saved = latest_training(self.folder / "states")
        begun = (
            take_weights(self.bundle, self.loop.init, say, self.loop.init_only)
            if self.loop.init and not saved
            else set()
        )
        if self.loop.recompute:
            recompute(self.bundle.model)
        if self.loop.compile:
            compile_layers(self.bundle.model, self.loop.compile)
        self.task.load(say)
        self.at = Progress()
        self.records: list[dict[str, Any]] = []
        self.interrupts = Interrupts(say)
        self.bad_in_a_row = 0

        self.keeper = Keeper(self.folder, self.fabric, self.loop, self.bundle)
        kept: dict[str, Any] = {}
        if saved is None:
            self.task.start(begun)
        else:
            self.at, kept = self.keeper.load(saved, self.task.key)
            self.records = read_metrics(self.folder / "metrics.jsonl")[: self.at.epoch]
            say(f"resuming from {saved}: epoch {self.at.epoch + 1}, batch {self.at.batches + 1}")
        self.at.on(self.fabric.world_size)
        size_batches(config, self.task, self.fabric, say)
        self.keeper.set_apart()
        self.model = self.fabric.setup_module(self.bundle.model)
        learning = learning_parameters(self.bundle.model)
        optimizer = torch.optim.AdamW(
            [{"params": list(learning.values()), "names": list(learning)}],
            config.optim.learning_rate,
            config.optim.betas,
            weight_decay=config.optim.weight_decay,
            fused=True,
        )
        self.optimizer: _FabricOptimizer = self.fabric.setup_optimizers(optimizer)  # type: ignore[assignment]
        self.average = MovingAverage(self.bundle.model, self.loop.ema_decay)
        if saved is not None:
            self.keeper.restore(saved, self.model, self.optimizer, self.average, kept)

    def run(self) -> None:
        """Train to the end; Ctrl-C or SIGTERM saves and raises TrainingInterrupt, in the first process."""
        if self.fabric.is_global_zero:
            self.folder.mkdir(parents=True, exist_ok=True)
            with replacing(self.folder / "train.yaml") as beside:
                beside.write_text(show(self.config), encoding="utf-8")
        millions = sum(p.numel() for p in learning_parameters(self.bundle.model).values()) / 1e6
        frozen = sum(p.numel() for p in self.bundle.model.parameters()) / 1e6 - millions
        self.say(
            f"training {millions:.2f} M parameters{f', {frozen:.2f} M frozen,' if frozen else ''} on "
            f"{self.task.described()}; {described(self.fabric, self.loop)}, {self.loop.precision}"
        )
        self.last_save = self.clock = time.monotonic()
        self.board = (
            SummaryWriter(str(self.folder / "tensorboard"), purge_step=self.at.steps + 1)
            if self.fabric.is_global_zero
            else None
        )
        try:
            with self.interrupts:
                while self.at.epoch < self.loop.max_epochs and not self._enough():
                    self._epoch()
                    if any_rank(self.fabric, self.interrupts.number is not None)[0]:
                        raise self.interrupts.error
        except TrainingInterrupt:
            if self.fabric.is_global_zero:
                raise
            return
        finally:
            if self.board is not None:
                self.board.close()
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
            self.at.epoch, self.at.own_batches, self.fabric.global_rank, self.fabric.world_size, self.at.stretches
        )
        expected = self.at.batches + len(batches)
        if self.at.total_steps == 0:
            self.at.total_steps = math.ceil(expected / self.loop.accumulate) * self.loop.max_epochs
        with Display(self.at.epoch + 1, self.loop.max_epochs, self.at.batches, expected) as display:
            self.model.train()
            for norm in self.frozen_norms:
                norm.eval()
            self.optimizer.zero_grad()
            for batch in self._waited_for(batches):
                last = self.at.batches + 1 == expected
                self._train_on(self.fabric.to_device(batch), last)
                display.advance(self._mean("loss"), self.optimizer.param_groups[0]["lr"])
                if self._between_steps(last) and not last:
                    self._save_if_due()
            valid = self._watched(display.track(self.task.validation_batches(), "validating"))
            unshard(self.bundle.model)
            with self.fabric.autocast(), self.average.in_place():
                measured = self.task.validate(valid, self.fabric.to_device)
            reshard(self.bundle.model)
        self._end_of_epoch(*measured)

    def _train_on(self, batch: Batch, last: bool) -> None:
        """One batch: gradients, and at the end of an accumulation a step."""
        self.at.batches += 1
        self._name_skipped(batch)
        seed = (
            (self.loop.seed * 1_000_003 + self.at.epoch) * 1_000_003 + self.at.batches * 1009 + self.fabric.global_rank
        )
        torch.manual_seed(seed % 2**63)
        boundary = self._between_steps(last)
        finite = True
        if not any_rank(self.fabric, not len(batch))[0]:  # with nothing on one rank, the others would wait for it
            with self.fabric.no_backward_sync(self.model, enabled=not boundary):
                finite = self._backward(batch, seed % 2**63)
        if boundary and finite:
            finite = self._step()
        if not finite:
            self._skip_bad(batch)
        elif len(batch):
            self.bad_in_a_row = 0

    def _backward(self, batch: Batch, seed: int) -> bool:
        """Gradients of a batch, in as many parts as memory asks for; whether the losses are finite."""
        parts = in_parts(batch, self.at.limits)
        try:
            for part, share in parts:
                losses = self.task.losses(self.model, part, seed)
                if any_rank(self.fabric, not losses.total.isfinite())[0]:
                    return False
                self.fabric.backward(losses.total * share / self.loop.accumulate)
                self._count(share, loss=losses.total, **losses.parts)
            return True
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            rows = max(len(part) for part, _ in parts) // 2
            named = f"{len(batch)} x {batch.source.size(-1) if batch.source.dim() < 3 else batch.source.size(1)}"
            if rows < 1 or self.fabric.world_size > 1:
                raise UserError(
                    f"out of memory with a batch of {named} frames or tokens; train with batch=auto, or lower "
                    "data.max_batch_seconds or text.max_batch_tokens"
                ) from error
        self.at.limits.append((int(batch.source_lengths.max()), int(batch.target_lengths.max()), rows))
        self.say(
            f"epoch {self.at.epoch + 1}, batch {self.at.batches}: out of memory with {named} frames or tokens; from "
            f"here on at most {rows} of this length go through at once"
        )
        self.optimizer.zero_grad()
        return self._backward(batch, seed)

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
        norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
        scaled = self.loop.precision == "16-mixed"  # its scaler looks for overflows by itself, and expects some
        finite = scaled or bool(norm.isfinite())  # type: ignore[union-attr]
        if finite:
            if optim.gradient_noise:
                add_gradient_noise(self.model.parameters(), optim.gradient_noise, self.at.steps, self.loop.seed)
            self.optimizer.step()
            self.average.update(self.at.steps)
        self.optimizer.zero_grad()
        if self.at.steps % 10 == 0 and self.board is not None:
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
        self.at.sums = mean_of_ranks(self.fabric, self.at.sums)
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
            "waited_seconds": round(self.at.waited, 1),
        }
        self.records.append(record)
        if self.board is not None:
            self.board.add_scalar("valid/loss", valid_loss, self.at.steps)
            self.board.add_scalar(f"valid/{self.task.error_name}", valid_error, self.at.steps)
        self.say(
            f"epoch {self.at.epoch}/{self.loop.max_epochs}: train loss {record['train_loss']:.4f}, "
            f"valid loss {valid_loss:.4f}, {self.task.error_title} {100 * valid_error:.2f} %, "
            f"{self.at.seconds / 60:.1f} min"
        )
        self.at.batches, self.at.bad_audio, self.at.waited, self.at.stretches, self.at.sums = 0, 0, 0.0, [], {}
        if math.isfinite(valid_loss):
            with self.average.in_place():
                self.keeper.keep(self.at, valid_loss)
        if self.fabric.is_global_zero:
            write_metrics(self.folder / "metrics.jsonl", self.records)
        self._save()

    def _enough(self) -> bool:
        if self.loop.patience and self.at.epochs_since_best >= self.loop.patience:
            self.say(f"no better validation loss for {self.at.epochs_since_best} epochs: stopping early")
            return True
        return False

    def _between_steps(self, last: bool) -> bool:
        return last or self.at.batches % self.loop.accumulate == 0

    def _count(self, share: float, **losses: torch.Tensor) -> None:
        self.at.sums["batches"] = self.at.sums.get("batches", 0) + share
        for name, loss in losses.items():
            self.at.sums[name] = self.at.sums.get(name, 0.0) + share * float(loss.detach())

    def _losses(self) -> list[str]:
        """The names of all losses, those that every model has first."""
        names = dict.fromkeys(("loss", *self.task.loss_names, *self.at.sums))
        return [name for name in names if name != "batches"]

    def _mean(self, name: str) -> float:
        return self.at.sums.get(name, 0.0) / max(1.0, self.at.sums.get("batches", 0))

    def _save_if_due(self) -> None:
        due = time.monotonic() - self.last_save > 60 * self.loop.save_minutes
        stop, due = any_rank(self.fabric, self.interrupts.number is not None, due)
        if stop or due:
            self._save()
        if stop:
            raise self.interrupts.error

    def _waited_for(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Batches to train on; how long each is waited for is counted, but for the first, before which all begins."""
        coming = iter(batches)
        batch = next(coming, None)
        while batch is not None:
            yield batch
            since = time.monotonic()
            batch = next(coming, None)
            self.at.waited += time.monotonic() - since

    def _watched(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Batches to validate on, until a signal comes."""
        for batch in batches:
            self._name_skipped(batch)
            self._save_if_due()
            yield batch

    def _name_skipped(self, batch: Batch) -> None:
        if batch.skipped:
            self.at.bad_audio += len(batch.skipped)
            self.say(f"skipped, its audio cannot be read: {'; '.join(batch.skipped)}")
            if self.at.bad_audio > self.config.data.max_bad_audio:
                raise UserError(
                    f"the audio of {self.at.bad_audio} utterances could not be read in this epoch, more than "
                    f"data.max_bad_audio={self.config.data.max_bad_audio}; the last: {batch.skipped[-1]}"
                )

    def _save(self) -> None:
        now = time.monotonic()
        self.at.seconds += now - self.clock
        self.last_save = self.clock = now
        with self.average.in_place(False):  # a signal may come while they are validated
            self.keeper.save(self.model, self.optimizer, self.average, self.at)


def _say_nothing(text: str) -> None:
    """What every process but the first says."""
