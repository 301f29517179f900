"""Parallel text as tokens, and its batches."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from s2s.data.batch import Batch
from s2s.data.buckets import bucketed, by_duration, share
from s2s.data.parallel import Direction, Sentence
from s2s.errors import UserError
from s2s.models.translation_bundle import TranslationTokenizer


@dataclass(frozen=True)
class TextDataConfig:
    """Parallel text and how it is put into batches.

    Attributes:
        train: folders with files such as text.en and text.de, joined.
        valid: the same, to validate on.
        pairs: what to translate from and to, such as en-de.
        max_batch_tokens: tokens in a batch of the longer side, padding counted.
        max_batch_size: sentences in a batch, null for no limit but `max_batch_tokens`.
        num_buckets: sentences of a batch come from one of that many ranges of length.
        max_length: sentences with more tokens on a side are left out of the training.
        temperature: of the sampling of pairs: each has the share n^(1/temperature) of an epoch, n its sentences.
    """

    train: list[str] = field(default_factory=list)
    valid: list[str] = field(default_factory=list)
    pairs: list[str] = field(default_factory=lambda: ["en-de"])
    max_batch_tokens: int = 4000
    max_batch_size: int | None = None
    num_buckets: int = 20
    max_length: int = 200
    temperature: float = 1.0

    def __post_init__(self) -> None:
        for name in ("max_batch_tokens", "num_buckets", "max_length", "temperature"):
            if getattr(self, name) <= 0:
                raise UserError(f"text.{name} is {getattr(self, name)}; expected more than 0")
        if self.max_batch_size is not None and self.max_batch_size < 1:
            raise UserError(f"text.max_batch_size is {self.max_batch_size}; expected 1 or more, or null for no limit")
        if self.max_length > self.max_batch_tokens:
            raise UserError(
                f"text.max_length is {self.max_length}, more than text.max_batch_tokens={self.max_batch_tokens}"
            )
        if not self.pairs:
            raise UserError("text.pairs is empty; expected source and target languages, such as [en-de]")


@dataclass(frozen=True)
class TokenPairs:
    """The tokens of N sentences on both sides; a source has what marks its ends, a target has no bos and eos."""

    names: list[str]
    directions: list[Direction]
    sources: Rows
    targets: Rows
    texts: list[str]

    @classmethod
    def of(cls, sentences: Sequence[Sentence], tokenizer: TranslationTokenizer) -> TokenPairs:
        """Tokens by a tokenizer; UserError for a language that it does not write."""
        chooses = bool(tokenizer.languages)
        return cls(
            [each.where for each in sentences],
            [each.direction for each in sentences],
            Rows.of(tokenizer.encode_source(s.source, s.direction.target if chooses else None) for s in sentences),
            Rows.of(tokenizer.encode(each.target) for each in sentences),
            [each.target for each in sentences],
        )

    def __len__(self) -> int:
        return len(self.names)

    def lengths(self) -> list[int]:
        """Of each, the tokens of the longer side; eos is counted on both."""
        return np.maximum(self.sources.lengths(), self.targets.lengths() + 1).tolist()

    def batch(self, numbers: Sequence[int]) -> Batch:
        """Some of them as a batch."""
        sources, targets = ([rows[n] for n in numbers] for rows in (self.sources, self.targets))
        return Batch(
            ids=[self.names[n] for n in numbers],
            source=pad_sequence(sources, batch_first=True),
            source_lengths=torch.tensor(list(map(len, sources))),
            target=pad_sequence(targets, batch_first=True),
            target_lengths=torch.tensor(list(map(len, targets))),
            texts=[self.texts[n] for n in numbers],
            seconds=0.0,
            skipped=[],
        )


@dataclass(frozen=True)
class Rows:
    """Many rows of numbers in one array: a list of lists would take ten times the memory."""

    values: NDArray[np.int32]
    starts: NDArray[np.int64]  # (N+1,)

    @classmethod
    def of(cls, rows: Iterator[list[int]]) -> Rows:
        parts = [np.array(row, dtype=np.int32) for row in rows]
        ends = np.cumsum([len(part) for part in parts], dtype=np.int64)
        values = np.concatenate(parts) if parts else np.zeros(0, dtype=np.int32)
        return cls(values, np.concatenate((np.zeros(1, dtype=np.int64), ends)))

    def __getitem__(self, number: int) -> Tensor:
        return torch.from_numpy(self.values[self.starts[number] : self.starts[number + 1]].astype(np.int64))

    def lengths(self) -> NDArray[np.int64]:
        return np.diff(self.starts)


@dataclass(frozen=True)
class TextBatches:
    """Batches to come: iterated as often as one likes, always the same; `len()` is how many."""

    pairs: TokenPairs
    numbers: list[list[int]]

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[Batch]:
        return map(self.pairs.batch, self.numbers)


def training_text_batches(
    pairs: TokenPairs,
    config: TextDataConfig,
    *,
    seed: int,
    epoch: int,
    skip_batches: int = 0,
    rank: int = 0,
    world_size: int = 1,
) -> TextBatches:
    """The batches of one epoch, in an order that `seed` and `epoch` alone decide; otherwise as for speech.

    Each sentence is there once, or as often as `temperature` gives its direction.
    """
    chance = random.Random(f"{seed} {epoch}")
    lengths = pairs.lengths()
    drawn = {
        f"{number} {copy}": float(lengths[number])
        for number, copies in sampled(pairs.directions, config.temperature, chance).items()
        for copy in range(copies)
    }
    batches = bucketed(
        drawn, config.max_batch_tokens, config.max_batch_size, config.num_buckets, chance.getrandbits(32)
    )
    own = share(batches, rank, world_size)[skip_batches:]
    return TextBatches(pairs, [[int(key.split()[0]) for key in batch] for batch in own])


def evaluation_text_batches(pairs: TokenPairs, config: TextDataConfig) -> TextBatches:
    """Each sentence once, from the longest to the shortest, under the same budget as in training."""
    lengths = {str(number): float(length) for number, length in enumerate(pairs.lengths())}
    batches = by_duration(lengths, config.max_batch_tokens, config.max_batch_size)
    return TextBatches(pairs, [list(map(int, batch)) for batch in batches])


def sampled(directions: Sequence[Direction], temperature: float, chance: random.Random) -> dict[int, int]:
    """How often each sentence is in an epoch of about as many as there are; a direction's share is n^(1/temperature).

    Arivazhagan et al. 2019, "Massively multilingual neural machine translation in the wild", section 4.2. A direction
    that gets more than it has is repeated whole, and the rest drawn.
    """
    if temperature == 1.0:
        return dict.fromkeys(range(len(directions)), 1)
    own: dict[Direction, list[int]] = defaultdict(list)
    for number, direction in enumerate(directions):
        own[direction].append(number)
    weights = {direction: len(numbers) ** (1.0 / temperature) for direction, numbers in own.items()}
    counts: Counter[int] = Counter()
    for direction, numbers in own.items():
        wanted = round(len(directions) * weights[direction] / sum(weights.values()))
        times, rest = divmod(wanted, len(numbers))
        counts.update({number: times for number in numbers if times})
        counts.update(chance.sample(numbers, rest))
    return dict(counts)
