"""Parallel text as tokens, and its batches."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from s2s.data.batch import Batch
from s2s.data.buckets import BatchSize, Lengths, bucketed, budget, by_length, going_on, share
from s2s.data.parallel import Direction, Sentence
from s2s.data.prompted import answer, prompt_of
from s2s.errors import UserError
from s2s.models.prompts import Prompts
from s2s.models.translation_bundle import TranslationTokenizer
from s2s.tokenizers.joint import prompt_tokens

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True)
class TextDataConfig:
    """Parallel text, or that of a language model, and how it is put into batches.

    Attributes:
        train: folders with files such as text.en and text.de, joined; of a language model files, a sentence a line.
        valid: the same, to validate on.
        pairs: what to translate from and to, such as en-de.
        max_batch_tokens: tokens in a batch of the longer side, padding counted.
        max_batch_size: sentences in a batch, null for no limit but `max_batch_tokens`.
        num_buckets: sentences of a batch come from one of that many ranges of source length, fewer for few batches.
        num_target_buckets: and from one of that many ranges of target length within it.
        max_length: sentences with more tokens on a side are left out of the training.
        temperature: of the sampling of pairs, or of files: each has the share n^(1/temperature) of an epoch, n its
            sentences.
        plain_share: share of the training sentences whose target is in lower case and without punctuation, as a model
            with prompts is told.
        decoder_mask: share of the tokens that a decoder, or a language model, is given as masks in training (MEAP).
    """

    train: list[str] = field(default_factory=list)
    valid: list[str] = field(default_factory=list)
    pairs: list[str] = field(default_factory=lambda: ["en-de"])
    max_batch_tokens: int = 4000
    max_batch_size: int | None = None
    num_buckets: int = 16
    num_target_buckets: int = 8
    max_length: int = 200
    temperature: float = 1.0
    plain_share: float = 0.0
    decoder_mask: float = 0.0

    def __post_init__(self) -> None:
        for name in ("max_batch_tokens", "num_buckets", "num_target_buckets", "max_length", "temperature"):
            if getattr(self, name) <= 0:
                raise UserError(f"text.{name} is {getattr(self, name)}; expected more than 0")
        for name in ("plain_share", "decoder_mask"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise UserError(f"text.{name} is {getattr(self, name)}; expected a share, from 0 to 1")
        if self.max_batch_size is not None and self.max_batch_size < 1:
            raise UserError(f"text.max_batch_size is {self.max_batch_size}; expected 1 or more, or null for no limit")
        if self.max_length > self.max_batch_tokens:
            raise UserError(
                f"text.max_length is {self.max_length}, more than text.max_batch_tokens={self.max_batch_tokens}"
            )
        if not self.pairs:
            raise UserError("text.pairs is empty; expected source and target languages, such as [en-de]")


class TokenText(Protocol):
    """Texts as tokens: `TokenPairs`, or the lines of a language model."""

    @property
    def directions(self) -> Sequence[Hashable]:
        """What each is one of."""
        ...

    def __len__(self) -> int: ...

    def lengths(self) -> list[Lengths]:
        """Of each, the tokens on both sides; the longer one takes of `max_batch_tokens`."""
        ...

    def some(self, numbers: Sequence[int]) -> Self:
        """Those of `numbers` alone."""
        ...

    def batch(self, numbers: Sequence[int]) -> Batch:
        """Those of `numbers` as a batch."""
        ...


@dataclass(frozen=True)
class TokenPairs:
    """The tokens of N sentences on both sides; a source has what marks its ends, a target has no bos and eos.

    `others` are further sources, of sentences that are read in several languages at once.
    """

    names: list[str]
    directions: list[Direction]
    sources: Rows
    targets: Rows
    texts: list[str]
    asked: Prompts | None = None
    others: tuple[Rows, ...] = ()

    @classmethod
    def of(cls, sentences: Sequence[Sentence], tokenizer: TranslationTokenizer, plain_share: float = 0.0) -> TokenPairs:
        """Tokens by a tokenizer; UserError for a language that it does not write. `plain_share` is as in the config."""
        chooses, tokens = bool(tokenizer.languages), prompt_tokens(tokenizer)
        prompts = [prompt_of(each.where, each.direction, plain_share if tokens else 0.0) for each in sentences]
        texts = [answer(prompt, each.target) for prompt, each in zip(prompts, sentences, strict=True)]

        def rows(number: int) -> Rows:
            """The tokens of the source of that number."""
            return Rows.of(
                tokenizer.encode_source((s.source, *s.others)[number], s.direction.target if chooses else None)
                for s in sentences
            )

        return cls(
            [each.where for each in sentences],
            [each.direction for each in sentences],
            rows(0),
            Rows.of(tokenizer.encode(text) for text in texts),
            texts,
            Prompts.of(tokens, prompts) if tokens else None,
            tuple(rows(number) for number in range(1, len(sentences[0].direction.sources) if sentences else 1)),
        )

    def __len__(self) -> int:
        return len(self.names)

    def lengths(self) -> list[Lengths]:
        """Of each, the tokens on both sides, of several sources those of the longest; eos is counted on both."""
        sources = np.max([rows.lengths() for rows in (self.sources, *self.others)], axis=0)
        return list(zip(sources.tolist(), (self.targets.lengths() + 1).tolist(), strict=True))

    def some(self, numbers: Sequence[int]) -> TokenPairs:
        """Those of `numbers` alone."""
        return TokenPairs(
            [self.names[n] for n in numbers],
            [self.directions[n] for n in numbers],
            self.sources.some(numbers),
            self.targets.some(numbers),
            [self.texts[n] for n in numbers],
            None if self.asked is None else self.asked.some(numbers),
            tuple(rows.some(numbers) for rows in self.others),
        )

    def batch(self, numbers: Sequence[int]) -> Batch:
        """Those of `numbers` as a batch; several sources are (B,N,S), lengths (B,N)."""
        targets = [self.targets[n] for n in numbers]
        sources = [rows[n] for n in numbers for rows in (self.sources, *self.others)]
        shape = (-1, 1 + len(self.others)) if self.others else (-1,)
        return Batch(
            ids=[self.names[n] for n in numbers],
            source=pad_sequence(sources, batch_first=True).unflatten(0, shape),
            source_lengths=torch.tensor(list(map(len, sources))).view(shape),
            target=pad_sequence(targets, batch_first=True),
            target_lengths=torch.tensor(list(map(len, targets))),
            texts=[self.texts[n] for n in numbers],
            seconds=0.0,
            skipped=[],
            asked=None if self.asked is None else self.asked.some(numbers),
        )


@dataclass(frozen=True)
class Rows:
    """Many rows of numbers in one array: a list of lists would take ten times the memory."""

    values: NDArray[np.int32]
    starts: NDArray[np.int64]  # (N+1,)

    @classmethod
    def of(cls, rows: Iterable[Sequence[int] | NDArray[np.int32]]) -> Rows:
        parts = [np.array(row, dtype=np.int32) for row in rows]
        ends = np.cumsum([len(part) for part in parts], dtype=np.int64)
        values = np.concatenate(parts) if parts else np.zeros(0, dtype=np.int32)
        return cls(values, np.concatenate((np.zeros(1, dtype=np.int64), ends)))

    def __getitem__(self, number: int) -> Tensor:
        return torch.from_numpy(self.values[self.starts[number] : self.starts[number + 1]].astype(np.int64))

    def lengths(self) -> NDArray[np.int64]:
        return np.diff(self.starts)

    def some(self, numbers: Sequence[int]) -> Rows:
        """Those of `numbers` alone."""
        return Rows.of(self.values[self.starts[n] : self.starts[n + 1]] for n in numbers)


@dataclass(frozen=True)
class TextBatches:
    """Batches to come: iterated as often as one likes, always the same; `len()` is how many."""

    pairs: TokenText
    numbers: list[list[int]]

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[Batch]:
        return map(self.pairs.batch, self.numbers)


def training_text_batches(
    pairs: TokenText,
    config: TextDataConfig,
    *,
    seed: int,
    epoch: int,
    skip_batches: int = 0,
    rank: int = 0,
    world_size: int = 1,
    earlier: Sequence[tuple[int, int]] = (),
    size: BatchSize | None = None,
) -> TextBatches:
    """The batches of one epoch, in an order that `seed` and `epoch` alone decide; otherwise as for speech.

    Each sentence is there once, or as often as `temperature` gives its direction.
    """
    chance = random.Random(f"{seed} {epoch}")
    lengths = pairs.lengths()
    drawn = {
        f"{number} {copy}": lengths[number]
        for number, copies in sampled(pairs.directions, config.temperature, chance).items()
        for copy in range(copies)
    }
    order = chance.getrandbits(32)
    sizes = size or text_budget(config)

    def plan(some: Mapping[str, Lengths], rank: int, world_size: int) -> list[list[str]]:
        batches = bucketed(some, sizes, config.num_buckets, config.num_target_buckets, order)
        return share(batches, rank, world_size, some, order)

    own = going_on(drawn, plan, rank, world_size, earlier)[skip_batches:]
    return TextBatches(pairs, [[int(key.split()[0]) for key in batch] for batch in own])


def evaluation_text_batches(pairs: TokenText, config: TextDataConfig) -> TextBatches:
    """Each sentence once, from the longest source to the shortest, under the same budget as in training."""
    lengths = {str(number): length for number, length in enumerate(pairs.lengths())}
    batches = by_length(lengths, text_budget(config))
    return TextBatches(pairs, [list(map(int, batch)) for batch in batches])


def text_budget(config: TextDataConfig) -> BatchSize:
    """How many sentences of some tokens on both sides make a batch."""
    return budget(config.max_batch_tokens, config.max_batch_size)


def sampled(directions: Sequence[Hashable], temperature: float, chance: random.Random) -> dict[int, int]:
    """How often each sentence is in an epoch of about as many as there are; a direction's share is n^(1/temperature).

    Arivazhagan et al. 2019, "Massively multilingual neural machine translation in the wild", section 4.2. A direction
    that gets more than it has is repeated whole, and the rest drawn.
    """
    if temperature == 1.0:
        return dict.fromkeys(range(len(directions)), 1)
    own: dict[Hashable, list[int]] = defaultdict(list)
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
