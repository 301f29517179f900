"""Text beside itself with noise, as tokens."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from s2s.data.batch import Batch
from s2s.data.buckets import Lengths
from s2s.data.denoising import DenoisingConfig, denoising_source
from s2s.data.parallel import Direction
from s2s.data.text_batches import TokenPairs


@dataclass(frozen=True)
class NoisyText:
    """Examples of some `lines` each, whose source is the target with noise.

    `seed`, `epoch` and the name of an example alone decide its noise, whatever batch it is in.
    """

    lines: TokenPairs  # from a language into itself
    examples: list[list[int]]  # lines of each, by number
    config: DenoisingConfig
    mask: int
    eos_id: int
    seed: int
    epoch: int = -1  # of the text to validate on

    @classmethod
    def of(cls, lines: TokenPairs, config: DenoisingConfig, mask: int, eos_id: int, seed: int) -> NoisyText:
        """Lines that follow one another are one example, as many as the config says, of one file each."""
        examples: list[list[int]] = []
        for number, name in enumerate(lines.names):
            file = name.rpartition(":")[0]
            last = examples[-1] if examples else []
            if last and len(last) < config.sentences and lines.names[last[0]].rpartition(":")[0] == file:
                last.append(number)
            else:
                examples.append([number])
        return cls(lines, examples, config, mask, eos_id, seed)

    @property
    def directions(self) -> list[Direction]:
        """The language of each example, from itself into itself."""
        return [self.lines.directions[example[0]] for example in self.examples]

    def __len__(self) -> int:
        return len(self.examples)

    def lengths(self) -> list[Lengths]:
        """Of each, the tokens without noise, eos counted; spans of none make a source longer."""
        own = self.lines.targets.lengths()
        sizes = [int(sum(own[number] for number in example)) + 1 for example in self.examples]
        return [(size, size) for size in sizes]

    def some(self, numbers: Sequence[int]) -> NoisyText:
        """Those of `numbers` alone."""
        return replace(self, examples=[self.examples[n] for n in numbers])

    def of_epoch(self, epoch: int) -> NoisyText:
        """The same with the noise of an epoch."""
        return replace(self, epoch=epoch)

    def batch(self, numbers: Sequence[int]) -> Batch:
        """Those of `numbers` as a batch."""
        examples = [self.examples[n] for n in numbers]
        firsts = [example[0] for example in examples]
        names = [self.lines.names[first] for first in firsts]
        rows = [[self.lines.targets[n] for n in example] for example in examples]
        sources = [self._source(name, sentences) for name, sentences in zip(names, rows, strict=True)]
        targets = [torch.cat(sentences) for sentences in rows]
        asked = self.lines.asked
        return Batch(
            ids=names,
            source=pad_sequence(sources, batch_first=True),
            source_lengths=torch.tensor(list(map(len, sources))),
            target=pad_sequence(targets, batch_first=True),
            target_lengths=torch.tensor(list(map(len, targets))),
            texts=[" ".join(self.lines.texts[n] for n in example) for example in examples],
            seconds=0.0,
            skipped=[],
            asked=None if asked is None else asked.some(firsts),
        )

    def _source(self, name: str, sentences: Sequence[Tensor]) -> Tensor:
        chance = random.Random(f"{self.seed} {self.epoch} {name}")
        tokens = [sentence.tolist() for sentence in sentences]
        return torch.tensor([*denoising_source(tokens, self.config, self.mask, chance), self.eos_id])
