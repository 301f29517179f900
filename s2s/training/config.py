"""What `s2s train` can be told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from s2s.audio.augment import SpecAugmentConfig
from s2s.audio.fbank import FbankConfig
from s2s.conf import compose, to_dataclass
from s2s.data.loader import DataConfig
from s2s.data.text_batches import TextDataConfig
from s2s.errors import UserError
from s2s.tokenizers.load import load_tokenizer
from s2s.training.schedule import check_schedule


@dataclass(frozen=True)
class OptimConfig:
    """AdamW and its learning rate.

    `schedule`: noam, cosine or linear, after `warmup_steps` of linear rise to the peak `learning_rate`. `clip_norm`:
    the gradient's norm is scaled down to this.
    """

    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.01
    schedule: str = "noam"
    warmup_steps: int = 1000
    clip_norm: float = 5.0


@dataclass(frozen=True)
class LoopConfig:
    """How long and on what to train.

    `accumulate`: batches per optimiser step. `precision`: 32-true, bf16-mixed or 16-mixed. `keep_best`, `keep_last`:
    checkpoints kept, by validation loss, and besides those of the last epochs. `patience`: epochs without a better
    validation loss before an early stop, 0 for never. `save_minutes`: a state to resume from is saved this often,
    besides after every epoch. `max_bad_batches`: batches in a row with a loss or gradient that is not finite before
    training gives up. `init`: a bundle whose weights a new training begins with, where names and shapes are the same.
    `freeze`: parameters that stay as they are, by patterns over their names ("encoder",
    "decoder.layers.*.self_attention").
    """

    max_epochs: int = 50
    accumulate: int = 1
    precision: str = "32-true"
    accelerator: str = "auto"
    devices: int = 1
    seed: int = 1
    keep_best: int = 5
    keep_last: int = 0
    patience: int = 0
    save_minutes: float = 10.0
    max_bad_batches: int = 10
    init: str | None = None
    freeze: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class TrainConfig:
    """All of one training: where it goes, from what, which model, how.

    `task`: "recognition", which learns from `data`, `features` and `spec_augment`, or "translation", from `text`.
    """

    task: str = "recognition"
    exp_dir: str = "exp"
    tokenizer: str = "data/tokenizer"
    vocab_size: int = 0  # follows from the tokenizer
    data: DataConfig = field(default_factory=DataConfig)
    text: TextDataConfig = field(default_factory=TextDataConfig)
    features: FbankConfig = field(default_factory=FbankConfig)
    spec_augment: SpecAugmentConfig = field(default_factory=SpecAugmentConfig)
    model: dict[str, Any] = field(default_factory=dict)
    optim: OptimConfig = field(default_factory=OptimConfig)
    training: LoopConfig = field(default_factory=LoopConfig)


def load_train_config(
    name: str = "train",
    overrides: Sequence[str] = (),
    config_dir: str | Path | None = None,
    read_tokenizer: bool = True,
) -> TrainConfig:
    """The config that `s2s train` runs, its vocabulary size read off the tokenizer unless it is only to be looked at.

    Raises UserError that names a bad key or value.
    """
    composed = compose(name, TrainConfig, overrides, config_dir)
    if read_tokenizer:
        composed.vocab_size = load_tokenizer(composed.tokenizer).vocab_size
    config: TrainConfig = to_dataclass(composed)
    check_schedule(config.optim.schedule)
    precisions = ("32-true", "bf16-mixed", "16-mixed")
    if config.training.precision not in precisions:
        raise UserError(f"training.precision={config.training.precision}: expected one of {', '.join(precisions)}")
    for key in ("max_epochs", "accumulate", "keep_best", "devices", "max_bad_batches"):
        if getattr(config.training, key) < 1:
            raise UserError(f"training.{key}={getattr(config.training, key)}: expected at least 1")
    if config.optim.learning_rate <= 0 or config.optim.clip_norm <= 0:
        raise UserError("optim.learning_rate and optim.clip_norm: expected numbers above 0")
    return config


def plain(value: Any) -> Any:
    """Tuples to lists, so that YAML writes them and a config read back compares equal."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def show(config: TrainConfig) -> str:
    """The whole config as YAML."""
    text: str = yaml.safe_dump(plain(asdict(config)), sort_keys=False)
    return text
