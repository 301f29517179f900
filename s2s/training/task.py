"""What a training loop asks of what is learned: a model, its batches and its losses."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from torch import Tensor, nn

from s2s.data.batch import Batch
from s2s.data.buckets import BatchSize, Lengths
from s2s.tokenizers.base import Tokenizer


class Losses(NamedTuple):
    """The loss of a batch to descend on, and others by name, for logging."""

    total: Tensor
    parts: Mapping[str, Tensor] = MappingProxyType({})


@dataclass(frozen=True)
class Sizing:
    """What decides how large batches may be.

    Attributes:
        lengths: of everything to train on, source and target, at their longest.
        frames: of a source of some length, how many steps of S.
        example: a few of them as a batch.
        data: where they are from.
        max_size: utterances in a batch, None for no limit.
        size: batch sizes as the config has them, where they are not measured.
    """

    lengths: list[Lengths]
    frames: Callable[[float], int]
    example: Batch
    data: list[str]
    max_size: int | None
    size: BatchSize


class Trained(Protocol):
    """The folder a trained model travels in: `Bundle`, `TranslationBundle`."""

    @property
    def model(self) -> nn.Module: ...

    @property
    def tokenizer(self) -> Tokenizer: ...

    @property
    def model_config(self) -> Mapping[str, Any]: ...

    def write(self, folder: Path) -> None: ...

    def save(self, folder: str | os.PathLike[str]) -> None: ...


class Batches(Protocol):
    """Batches to come; `len()` is how many."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Batch]: ...


class Task(Protocol):
    """What is learned, from what, and how well."""

    @property
    def key(self) -> str:
        """Of the model in a bundle's config."""
        ...

    @property
    def loss_names(self) -> tuple[str, ...]:
        """The parts of the loss that there always are."""
        ...

    @property
    def error_name(self) -> str:
        """What `validate` measures besides the loss, as it is recorded."""
        ...

    @property
    def error_title(self) -> str:
        """The same, as it is told."""
        ...

    @property
    def bundle(self) -> Trained: ...

    batch_size: BatchSize | None
    """What was measured; None: as the config has it."""

    def load(self, say: Callable[[str], None]) -> None:
        """Read what to train and to validate on; what is left out is counted aloud."""
        ...

    def start(self, begun: set[str]) -> None:
        """What a fresh model learns of the data before the first step; `begun` are the tensors it was given."""
        ...

    def sizing(self) -> Sizing:
        """For memory to be estimated, or batch sizes measured."""
        ...

    def described(self) -> str:
        """On how much it trains, and on how much it validates."""
        ...

    def training_batches(
        self, epoch: int, skip_batches: int, rank: int, world_size: int, earlier: Sequence[tuple[int, int]] = ()
    ) -> Batches:
        """Those of an epoch, from 0; the first `skip_batches` were trained on already.

        Before that other numbers of processes may have trained on it: `earlier`, in their order, how many they were
        and on how many batches each.
        """
        ...

    def validation_batches(self) -> Batches: ...

    def losses(self, model: nn.Module, batch: Batch, seed: int) -> Losses:
        """Of a batch in training; all chance of its own is drawn from `seed`. `model` is the bundle's, as wrapped."""
        ...

    def validate(self, batches: Iterable[Batch], to_device: Callable[[Batch], Batch]) -> tuple[float, float]:
        """Loss per target token and the error rate, the model in evaluation mode."""
        ...
