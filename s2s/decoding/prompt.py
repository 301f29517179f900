"""Memories whose hypotheses begin with tokens that are given."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from s2s.models.memory import Memory


@dataclass(frozen=True)
class PromptedMemory(Memory):
    """A memory, and for each utterance the tokens (B,P), lengths (B,), that stand before what is searched for."""

    prompts: Tensor = field(kw_only=True)
    prompt_lengths: Tensor = field(kw_only=True)

    @classmethod
    def of(cls, memory: Memory, prompts: list[list[int]]) -> PromptedMemory:
        """`memory` with a prompt of at least one token for each of its utterances."""
        lengths = torch.tensor([len(prompt) for prompt in prompts])
        padded = torch.zeros(len(prompts), int(lengths.max()), dtype=torch.long)
        for row, prompt in zip(padded, prompts, strict=True):
            row[: len(prompt)] = torch.tensor(prompt)
        device = memory.states.device
        return cls(**vars(memory), prompts=padded.to(device), prompt_lengths=lengths.to(device))

    def rows(self, start: int, stop: int) -> PromptedMemory:
        memory, lengths = super().rows(start, stop), self.prompt_lengths[start:stop]
        prompts = self.prompts[start:stop, : int(lengths.max()) if len(lengths) else 0]
        return PromptedMemory(**vars(memory), prompts=prompts, prompt_lengths=lengths)
