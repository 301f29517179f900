"""What a training keeps: states to go on from, and the best of its bundles."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from s2s.errors import UserError
from s2s.files import remove
from s2s.models.bundle import read_config
from s2s.training.checkpoint import SHARDS, Progress, load_training, save_training
from s2s.training.config import LoopConfig, plain
from s2s.training.devices import whole_weights
from s2s.training.freeze import learning_parameters
from s2s.training.moving_average import MovingAverage
from s2s.training.task import Trained


class Keeper:
    """The `states` and `checkpoints` in the folder of a training; every process has one, and all call it alike.

    With `strategy=fsdp` states are written by all of them, in shards; everything else by the first.
    """

    def __init__(self, folder: Path, fabric: Fabric, loop: LoopConfig, bundle: Trained) -> None:
        self.states, self.checkpoints = folder / "states", folder / "checkpoints"
        self.fabric, self.loop, self.bundle = fabric, loop, bundle
        self.sharded = loop.strategy == "fsdp"
        self.portable = bundle  # the bundle that is written

    def load(self, saved: Path, key: str) -> tuple[Progress, dict[str, Any]]:
        """Take up the weights of a state -> progress, and what was kept besides, for `restore`.

        Raises UserError where it is of another model than that of the config, which is under `key`, or other parameters
        were learned.
        """
        if plain(read_config(saved, (key,))[key]) != plain(dict(self.bundle.model_config)):
            raise UserError(
                f"{saved}: holds another model than the config describes; go on with the same model options, "
                "or start anew with another exp_dir"
            )
        weights, kept, at = load_training(saved)
        every = [name for name, _ in self.bundle.model.named_parameters()]  # what was saved without names
        if kept["optimizer"]["param_groups"][0].get("names", every) != list(learning_parameters(self.bundle.model)):
            raise UserError(
                f"{saved}: other parameters were frozen than with training.freeze={list(self.loop.freeze)}; go on with "
                "the same ones, or begin anew with another exp_dir and training.init"
            )
        if (saved / SHARDS).is_dir() != self.sharded:
            raise UserError(
                f"{saved}: training.strategy={self.loop.strategy}: it was "
                f"{'not ' if self.sharded else ''}saved by training.strategy=fsdp; go on as it began"
            )
        if bool(kept.get("average")) != bool(self.loop.ema_decay):
            how = "with" if kept.get("average") else "without"
            raise UserError(
                f"{saved}: training.ema_decay={self.loop.ema_decay:g}: it was saved {how} an average of weights; go "
                "on as it began, or begin anew with another exp_dir"
            )
        self.bundle.model.load_state_dict(weights)
        return at, kept

    def set_apart(self) -> None:
        """Before the model is sharded: have a whole copy of it, to be written."""
        if self.sharded:
            self.portable = deepcopy(self.bundle)

    def restore(
        self, saved: Path, model: nn.Module, optimizer: Any, average: MovingAverage, kept: dict[str, Any]
    ) -> None:
        """After the set-up, so that the optimiser's state follows the weights to their device: take it up."""
        if self.sharded:
            self.fabric.load(saved / SHARDS, {"model": model, "optimizer": optimizer})
        else:
            optimizer.load_state_dict(kept["optimizer"])
        average.load(kept.get("average", {}))
        self.fabric.strategy.precision.load_state_dict(kept["scaler"])

    def save(self, model: nn.Module, optimizer: Any, average: MovingAverage, at: Progress) -> None:
        """Save a state to go on from."""
        self._gather()
        shards = None
        if self.sharded:
            shards = self.states / f".{SHARDS}.part"
            if self.fabric.is_global_zero:
                remove(shards)
            self.fabric.barrier()
            self.fabric.save(shards, {"model": model, "optimizer": optimizer})
            self.fabric.barrier()
        if self.fabric.is_global_zero:
            names = list(learning_parameters(self.bundle.model))
            kept = {
                "optimizer": {"param_groups": [{"names": names}]} if shards else optimizer.state_dict(),
                "scaler": self.fabric.strategy.precision.state_dict(),
                "average": average.averages,
            }
            save_training(self.states, self.portable, kept, at, shards)
        self.fabric.barrier()

    def keep(self, at: Progress, loss: float) -> None:
        """Keep the bundle of the epoch that has ended if it is among the best or the last."""
        at.best = sorted([*at.best, (loss, at.epoch)])[: self.loop.keep_best]
        epochs = [*(epoch for _, epoch in at.best), *range(at.epoch - self.loop.keep_last + 1, at.epoch + 1)]
        self._gather()
        if self.fabric.is_global_zero:
            self._keep_only({f"epoch-{epoch:04d}" for epoch in epochs}, f"epoch-{at.epoch:04d}")

    def _keep_only(self, names: set[str], own: str) -> None:
        if own in names:
            self.portable.save(self.checkpoints / own)
        for old in _inside(self.checkpoints):
            if old.name not in names:
                remove(old)

    def _gather(self) -> None:
        """Have the weights in `portable`; those of shards are fetched from all processes."""
        if self.sharded:
            weights: dict[str, torch.Tensor] = whole_weights(self.bundle.model)
            if self.fabric.is_global_zero:
                self.portable.model.load_state_dict(weights)


def _inside(folder: Path) -> Sequence[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []
