"""Checkpoints: a bundle, and for the newest one what training needs to go on as if it had never stopped."""

from __future__ import annotations

import os
import pickle
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from s2s.errors import UserError
from s2s.files import remove, replacing
from s2s.models.bundle import Bundle, load_bundle, read_config, read_weights
from s2s.models.hybrid import HybridModel
from s2s.models.lm_bundle import LanguageModelBundle, is_language_model, load_language_model
from s2s.models.translation_bundle import TranslationBundle, is_translation_bundle, load_translation_bundle
from s2s.training.task import Trained

STATE, SHARDS = "training_state.pt", "shards"


@dataclass
class Progress:
    """Where a training stands. All chance is drawn from (seed, epoch, batch), so this and the tensors are enough."""

    epoch: int = 0  # from 0
    batches: int = 0  # of this epoch, already trained on
    steps: int = 0  # of the optimiser
    total_steps: int = 0  # expected, for the learning rate
    seconds: float = 0.0
    waited: float = 0.0  # of those of this epoch, seconds without a batch to train on
    sums: dict[str, float] = field(default_factory=dict)  # of this epoch's losses
    best: list[tuple[float, int]] = field(default_factory=list)  # (validation loss, epoch) of the checkpoints kept
    epochs_since_best: int = 0
    bad_batches: int = 0  # skipped for a loss or gradient that is not finite, in all
    bad_audio: int = 0  # utterances of this epoch whose audio could not be read
    world_size: int = 1  # processes that train
    limits: list[tuple[int, int, int]] = field(default_factory=list)  # (frames, tokens, rows) that memory allows
    stretches: list[tuple[int, int]] = field(default_factory=list)  # of this epoch, by others: how many, and batches

    def on(self, world_size: int) -> None:
        """Go on with so many processes; what others have done of this epoch is remembered."""
        if world_size != self.world_size and self.own_batches:
            self.stretches.append((self.world_size, self.own_batches))
        self.world_size = world_size

    @property
    def own_batches(self) -> int:
        """Of this epoch, already trained on by as many processes as now."""
        return self.batches - sum(batches for _, batches in self.stretches)


def save_training(
    states: Path,
    bundle: Trained,
    kept: dict[str, Any],
    at: Progress,
    shards: Path | None = None,
) -> None:
    """Write bundle and training state into a new folder of `states`, whole or not at all, then remove the older ones.

    `kept` are the states of the optimiser, of the precision's scaler and the average of the weights, by these names.
    Since the older state goes only when the newer one is there, a kill at any moment leaves one to resume from.
    `shards` is a folder that was written beside, which becomes part of it. Raises UserError where there is no place.
    """
    folder = states / f"epoch-{at.epoch + 1:04d}-batch-{at.batches:06d}"
    if not folder.exists():
        try:
            with replacing(folder) as beside:
                bundle.write(beside)
                torch.save({**kept, "progress": asdict(at)}, beside / STATE)
                if shards is not None:
                    shards.rename(beside / SHARDS)
        except (
            OSError,
            RuntimeError,
            SafetensorError,
        ) as error:  # torch and safetensors have their own for a full disk
            last = latest_training(states)
            raise UserError(
                f"{folder}: cannot be written ({str(error).splitlines()[0]}); free some space and run the same command "
                f"again, it goes on from {last}" + ("" if last else ": there is none yet, from the beginning")
            ) from error
    for other in states.iterdir():
        if other != folder:
            remove(other)


def latest_training(states: Path) -> Path | None:
    """The newest state to resume from, None where there is none."""
    return max((path for path in states.glob("epoch-*") if (path / STATE).is_file()), default=None)


def load_training(folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any], Progress]:
    """Weights, what was kept besides (see `save_training`) and progress of the training saved in `folder`."""
    try:
        kept = torch.load(folder / STATE, map_location="cpu", weights_only=True)
        progress = Progress(**kept.pop("progress"))
    except (OSError, RuntimeError, pickle.UnpicklingError, KeyError, TypeError, EOFError) as error:
        kind = type(error).__name__  # torch's own words fill a page
        raise UserError(f"{folder / STATE}: cannot resume from it ({kind}); delete {folder} to start anew") from error
    progress.best = [(loss, epoch) for loss, epoch in progress.best]
    progress.limits = [(source, target, rows) for source, target, rows in progress.limits]
    progress.stretches = [(world_size, batches) for world_size, batches in progress.stretches]
    return read_weights(folder), kept, progress


def checkpoints_in(paths: Sequence[str | os.PathLike[str]], last: int = 0) -> list[Path]:
    """The bundles that `paths` name, each a bundle or a training folder, which stands for all it kept.

    Where `last`, it stands for those of its last epochs, so many.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        kept = sorted((path / "checkpoints").glob("epoch-*")) if (path / "checkpoints").is_dir() else []
        if not kept:
            read_config(path, ())  # a bundle, or the error that says what was expected
        found += kept[-last:] or [path]
    return found


def load_trained(folder: Path) -> Bundle[HybridModel] | TranslationBundle | LanguageModelBundle:
    """The bundle in a folder, of whatever is trained."""
    if is_language_model(folder):
        return load_language_model(folder)
    return load_translation_bundle(folder) if is_translation_bundle(folder) else load_bundle(folder)


def average(folders: Sequence[Path]) -> Trained:
    """The bundle whose weights are the mean of those in `folders`; UserError unless all hold the same model."""
    if not folders:
        raise UserError("nothing to average: name at least one checkpoint or training folder")
    bundle = load_trained(folders[0])
    sums = {name: tensor.double() for name, tensor in bundle.model.state_dict().items()}
    for folder in folders[1:]:
        weights = read_weights(folder)
        if {k: v.shape for k, v in weights.items()} != {k: v.shape for k, v in sums.items()}:
            raise UserError(f"{folder}: another model than {folders[0]}; average checkpoints of one training")
        for name, tensor in weights.items():
            sums[name] += tensor
    own = bundle.model.state_dict()
    bundle.model.load_state_dict({name: (total / len(folders)).to(own[name].dtype) for name, total in sums.items()})
    return bundle
