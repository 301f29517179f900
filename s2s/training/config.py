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
from s2s.data.denoising import DenoisingConfig
from s2s.data.loader import DataConfig
from s2s.data.text_batches import TextDataConfig
from s2s.errors import UserError
from s2s.tokenizers.load import load_tokenizer
from s2s.training.schedule import check_schedule
from s2s.training.teacher import DistillationConfig

COMPILERS = ("inductor", "aot_eager", "eager")  # the last two are no faster: to find out what is wrong


@dataclass(frozen=True)
class OptimConfig:
    """AdamW and its learning rate.

    `schedule`: noam, cosine or linear, after `warmup_steps` of linear rise to the peak `learning_rate`. `clip_norm`:
    the gradient's norm is scaled down to this. `gradient_noise`: normal noise of a variance of this by
    (1 + steps)^0.55 is then added (Neelakantan et al. 2015, who use 0.01 to 1); 0 for none.
    """

    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.01
    schedule: str = "noam"
    warmup_steps: int = 1000
    clip_norm: float = 5.0
    gradient_noise: float = 0.0


@dataclass(frozen=True)
class LoopConfig:
    """How long and on what to train.

    `accumulate`: batches per optimiser step. `precision`: 32-true, bf16-mixed or 16-mixed. `keep_best`, `keep_last`:
    checkpoints kept, by validation loss, and besides those of the last epochs. `patience`: epochs without a better
    validation loss before an early stop, 0 for never. `save_minutes`: a state to resume from is saved this often,
    besides after every epoch. `max_bad_batches`: batches in a row with a loss or gradient that is not finite before
    training gives up. `init`: a bundle whose weights a new training begins with, where names and shapes are the same;
    of `init_only` alone, patterns as in `freeze`, if there are any: then its tokenizer may be another.
    `freeze`: parameters that stay as they are, by patterns over their names ("encoder",
    "decoder.layers.*.self_attention"). `devices` of each of `num_nodes`; `strategy`: auto and ddp have a copy of the
    model on each, fsdp a share of it. `ema_decay`: an exponential moving average of the weights is validated and kept
    in their place, such as of 0.999; 0 for none. `recompute`: layers are computed again in the backward pass, which
    takes more time and less memory. `compile`: what torch.compile makes the layers with, such as inductor; null leaves
    them as they are.
    """

    max_epochs: int = 50
    accumulate: int = 1
    precision: str = "32-true"
    accelerator: str = "auto"
    devices: int = 1
    num_nodes: int = 1
    strategy: str = "auto"
    seed: int = 1
    keep_best: int = 5
    keep_last: int = 0
    patience: int = 0
    save_minutes: float = 10.0
    max_bad_batches: int = 10
    init: str | None = None
    init_only: list[str] = field(default_factory=list)
    freeze: list[str] = field(default_factory=list)
    ema_decay: float = 0.0
    recompute: bool = False
    compile: str | None = None


@dataclass(frozen=True)
class TrainConfig:
    """All of one training: where it goes, from what, which model, how.

    `task`: "recognition" and "speech_translation", which learn from `data`, `features` and `spec_augment`, or
    "translation", "denoising" (with the noise of `denoising`) and "language_model", from `text`.
    `batch`: fixed, by the limits of `data` and `text`, or auto: as large as fits into `memory` gigabytes (null: most of
    what is free), measured before the first step.
    """

    task: str = "recognition"
    exp_dir: str = "exp"
    tokenizer: str = "data/tokenizer"
    vocab_size: int = 0  # follows from the tokenizer
    batch: str = "fixed"
    memory: float | None = None
    data: DataConfig = field(default_factory=DataConfig)
    text: TextDataConfig = field(default_factory=TextDataConfig)
    denoising: DenoisingConfig = field(default_factory=DenoisingConfig)
    features: FbankConfig = field(default_factory=FbankConfig)
    spec_augment: SpecAugmentConfig = field(default_factory=SpecAugmentConfig)
    model: dict[str, Any] = field(default_factory=dict)
    distillation: DistillationConfig = field(default_factory=DistillationConfig)
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
    if config.batch not in ("fixed", "auto"):
        raise UserError(f"batch={config.batch}: expected fixed (data.max_batch_seconds, text.max_batch_tokens) or auto")
    if config.memory is not None and config.memory <= 0:
        raise UserError(f"memory={config.memory}: expected gigabytes, more than 0, or null for most of what is free")
    precisions = ("32-true", "bf16-mixed", "16-mixed")
    if config.training.precision not in precisions:
        raise UserError(f"training.precision={config.training.precision}: expected one of {', '.join(precisions)}")
    strategies = ("auto", "ddp", "ddp_find_unused_parameters_true", "fsdp")
    if config.training.strategy not in strategies:
        raise UserError(f"training.strategy={config.training.strategy}: expected one of {', '.join(strategies)}")
    for key in ("max_epochs", "accumulate", "keep_best", "devices", "num_nodes", "max_bad_batches"):
        if getattr(config.training, key) < 1:
            raise UserError(f"training.{key}={getattr(config.training, key)}: expected at least 1")
    if not 0.0 <= config.training.ema_decay < 1.0:
        raise UserError(
            f"training.ema_decay={config.training.ema_decay}: expected 0 for none, or less than 1, as 0.999"
        )
    if config.training.strategy == "fsdp" and (config.training.ema_decay or config.optim.gradient_noise):
        raise UserError("training.strategy=fsdp: has neither training.ema_decay nor optim.gradient_noise; use ddp")
    if config.training.compile not in (None, *COMPILERS):
        raise UserError(f"training.compile={config.training.compile}: expected null or one of {', '.join(COMPILERS)}")
    if config.optim.gradient_noise < 0:
        raise UserError(f"optim.gradient_noise={config.optim.gradient_noise}: expected 0 for none, or more")
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
