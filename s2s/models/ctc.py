"""The CTC output layer."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from s2s.models.memory import Memory


class CTC(nn.Module):
    """Connectionist temporal classification over encoder frames (Graves et al. 2006)."""

    def __init__(self, memory_dim: int, vocab_size: int, blank_id: int = 0) -> None:
        super().__init__()
        self.blank_id = blank_id
        self.out = nn.Linear(memory_dim, vocab_size)

    def forward(self, memory: Memory) -> Tensor:
        """Log-probabilities (B,T,V) of each frame's label."""
        return self.out(memory.states).log_softmax(dim=-1)

    def loss(self, memory: Memory, target: Tensor, target_lengths: Tensor) -> Tensor:
        """-log P(target | memory) in nats, (B,); zero where the memory has too few frames for the target."""
        log_probs = self(memory).float().transpose(0, 1)  # (T,B,V)
        return F.ctc_loss(
            log_probs, target, memory.lengths, target_lengths, self.blank_id, reduction="none", zero_infinity=True
        )
