"""What decoders are asked for, as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from s2s.tokenizers.prompts import Prompt, PromptTokens


@dataclass(frozen=True)
class Prompts:
    """What is asked for each of B utterances: tokens (B,P) that come before bos, as many for all of them.

    `languages` (B,2) says the same for layers of languages: the numbers of the source and of the target.
    """

    tokens: Tensor
    languages: Tensor

    @classmethod
    def of(cls, tokens: PromptTokens, prompts: Sequence[Prompt]) -> Prompts:
        """One for each utterance; UserError for a word that has no token."""
        ids = [tokens.encode(prompt) for prompt in prompts]
        numbers = [tokens.numbers(prompt) for prompt in prompts]
        long = torch.long
        return cls(torch.tensor(ids, dtype=long).view(-1, tokens.size), torch.tensor(numbers, dtype=long).view(-1, 2))

    def rows(self, start: int, stop: int) -> Prompts:
        """Those of the utterances from `start` to before `stop`."""
        return Prompts(self.tokens[start:stop], self.languages[start:stop])

    def some(self, numbers: Sequence[int]) -> Prompts:
        """Those of some utterances, in that order."""
        return Prompts(self.tokens[list(numbers)], self.languages[list(numbers)])

    @classmethod
    def joined(cls, prompts: Sequence[Prompts]) -> Prompts:
        """Those of several batches, one after the other."""
        return cls(torch.cat([each.tokens for each in prompts]), torch.cat([each.languages for each in prompts]))

    def to(self, device: torch.device | str) -> Prompts:
        """The same on `device`."""
        return Prompts(self.tokens.to(device), self.languages.to(device))
