"""What all tasks that learn from text have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from s2s.data.buckets import BatchSize
from s2s.data.text_batches import TokenText, evaluation_text_batches, text_budget, training_text_batches
from s2s.errors import UserError
from s2s.training.config import TrainConfig
from s2s.training.task import Batches, Sizing

Texts = TypeVar("Texts", bound=TokenText)


class TextTask(ABC, Generic[Texts]):
    """A task that learns from what `text.train` names, and is validated on what `text.valid` names."""

    loss_names = ()
    error_name, error_title = "token_error", "wrong next tokens"
    batch_size: BatchSize | None = None

    def __init__(self, config: TrainConfig) -> None:
        self.config = config

    @abstractmethod
    def read(self, paths: list[str], key: str) -> tuple[Texts, int]:
        """The texts of `paths`, and how many were empty; UserError where there are none, naming `key`."""

    def load(self, say: Callable[[str], None]) -> None:
        text = self.config.text
        self.train = self._fit(text.train, "text.train", say, text.max_length)
        self.valid = self._fit(text.valid, "text.valid", say, text.max_batch_tokens)

    def _fit(self, paths: list[str], key: str, say: Callable[[str], None], longest: int) -> Texts:
        """The texts of `paths`; those that are empty or too long are left out and counted aloud."""
        texts, num_empty = self.read(paths, key)
        lengths = texts.lengths()
        numbers = [number for number, length in enumerate(lengths) if max(length) <= longest]
        if num_empty or len(numbers) < len(lengths):
            say(f"{key}: left out: {num_empty} empty, {len(lengths) - len(numbers)} of more than {longest} tokens")
        if not numbers:
            raise UserError(f"{key}: no sentences are left of {', '.join(paths)}")
        return texts if len(numbers) == len(lengths) else texts.some(numbers)

    def start(self, begun: set[str]) -> None:
        pass

    def sizing(self) -> Sizing:
        text, example = self.config.text, self.train.batch(range(min(4, len(self.train))))
        return Sizing(self.train.lengths(), int, example, text.train, text.max_batch_size, text_budget(text))

    def described(self) -> str:
        return f"{len(self.train)} sentences, validating on {len(self.valid)}"

    def training_batches(
        self, epoch: int, skip_batches: int, rank: int, world_size: int, earlier: Sequence[tuple[int, int]] = ()
    ) -> Batches:
        return training_text_batches(
            self.train,
            self.config.text,
            seed=self.config.training.seed,
            epoch=epoch,
            skip_batches=skip_batches,
            rank=rank,
            world_size=world_size,
            earlier=earlier,
            size=self.batch_size,
        )

    def validation_batches(self) -> Batches:
        return evaluation_text_batches(self.valid, self.config.text)
