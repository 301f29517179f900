"""Checkpoints: a bundle, and for the newest one what training needs to go on as if it had never stopped."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from s2s.errors import UserError
from s2s.files import replacing
from s2s.models.bundle import Bundle, load_bundle, read_config, read_weights
from s2s.models.hybrid import HybridModel
from s2s.models.translation_bundle import TranslationBundle, is_translation_bundle, load_translation_bundle
from s2s.training.task import Trained

STATE = "training_state.pt"


@dataclass
class Progress:
    """Where a training stands. All chance is drawn from (seed, epoch, batch), so this and the tensors are enough."""

    epoch: int = 0  # from 0
    batches: int = 0  # of this epoch, already trained on
    steps: int = 0  # of the optimiser
    total_steps: int = 0  # expected, for the learning rate
    seconds: float = 0.0
    sums: dict[str, float] = field(default_factory=dict)  # of this epoch's losses
    best: list[tuple[float, int]] = field(default_factory=list)  # (validation loss, epoch) of the checkpoints kept
    epochs_since_best: int = 0
    bad_batches: int = 0  # skipped for a loss or gradient that is not finite, in all


def save_training(
    states: Path, bundle: Trained, optimizer: dict[str, Any], scaler: dict[str, Any], at: Progress
) -> None:
    """Write bundle and training state into a new folder of `states`, whole or not at all, then remove the older ones.

    Since the older state goes only when the newer one is there, a kill at any moment leaves one to resume from.
    """
    folder = states / f"epoch-{at.epoch + 1:04d}-batch-{at.batches:06d}"
    if not folder.exists():
        with replacing(folder) as beside:
            bundle.write(beside)
            torch.save({"optimizer": optimizer, "scaler": scaler, "progress": asdict(at)}, beside / STATE)
    for other in states.iterdir():
        if other != folder:
            shutil.rmtree(other)


def latest_training(states: Path) -> Path | None:
    """The newest state to resume from, None where there is none."""
    return max((path for path in states.glob("epoch-*") if (path / STATE).is_file()), default=None)


def load_training(folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any], dict[str, Any], Progress]:
    """Weights, optimiser state, precision-scaler state and progress of the training saved in `folder`."""
    try:
        state = torch.load(folder / STATE, map_location="cpu", weights_only=True)
        progress = Progress(**state["progress"])
    except (OSError, RuntimeError, pickle.UnpicklingError, KeyError, TypeError, EOFError) as error:
        kind = type(error).__name__  # torch's own words fill a page
        raise UserError(f"{folder / STATE}: cannot resume from it ({kind}); delete {folder} to start anew") from error
    progress.best = [(loss, epoch) for loss, epoch in progress.best]
    return read_weights(folder), state["optimizer"], state["scaler"], progress


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


def load_trained(folder: Path) -> Bundle[HybridModel] | TranslationBundle:
    """The bundle in a folder, of whatever is trained."""
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
