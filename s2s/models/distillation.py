"""What a student learns of a teacher's answers (Hinton et al. 2015, arXiv:1503.02531)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from s2s.nn.lengths import valid_mask


@dataclass(frozen=True)
class Lesson:
    """What a teacher says of a batch, and how much of a loss it is.

    A loss L becomes (1-w) L + w τ² KL(teacher || student), of softmax(scores / τ), with w the `weight` and τ the
    `temperature`: at every token after the true ones (word-level distillation, Kim and Rush 2016, arXiv:1606.07947,
    eq. 4) and at every frame of CTC, of the last layer and of intermediate ones (Yoon et al. 2022).

    `next_tokens` (B,U,V) are its log-probabilities of what follows bos and each true token, `frames` (B,T,V) those of
    the labels of frames; what is None is not taught.
    """

    next_tokens: Tensor | None
    frames: Tensor | None
    weight: float
    temperature: float

    def of_tokens(self, loss: Tensor, log_probs: Tensor, counted: Tensor) -> Tensor:
        """The loss, in nats per token, of a student's log-probabilities (B,U,V), where tokens are `counted` (B,U)."""
        if self.next_tokens is None:
            return loss
        found = self._divergence(self.next_tokens, log_probs, counted) / counted.sum().clamp(min=1)
        return (1 - self.weight) * loss + self.weight * found

    def of_frames(self, loss: Tensor, log_probs: Tensor, lengths: Tensor, num_tokens: Tensor) -> Tensor:
        """The loss, in nats per token, of a student's labels (B,T,V) of frames, lengths (B,), of so many tokens."""
        if self.frames is None:
            return loss
        found = self._divergence(self.frames, log_probs, valid_mask(lengths, log_probs.size(1))) / num_tokens
        return (1 - self.weight) * loss + self.weight * found

    def _divergence(self, teacher: Tensor, student: Tensor, counted: Tensor) -> Tensor:
        """The sum of τ² KL over what is counted; a token that the teacher rules out adds nothing."""
        teacher, student = ((each.float() / self.temperature).log_softmax(dim=-1) for each in (teacher, student))
        share = teacher.exp()
        each = torch.where(share > 0, share * (teacher - student), 0.0).sum(dim=-1)
        return self.temperature**2 * each.masked_fill(~counted, 0.0).sum()
