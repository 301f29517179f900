"""How long a hypothesis may be."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from s2s.errors import UserError


@dataclass(frozen=True)
class Limits:
    """Fewest and most tokens, eos not counted: as shares of the memory's frames and as counts; the tighter holds."""

    max_length_ratio: float = 1.0
    max_length: int | None = None
    min_length_ratio: float = 0.0
    min_length: int = 0

    def __post_init__(self) -> None:
        if self.max_length_ratio <= 0:
            raise UserError(f"max_length_ratio={self.max_length_ratio}: expected a number above 0, such as 1.0")
        if self.max_length is not None and self.max_length < 1:
            raise UserError(f"max_length={self.max_length}: expected at least 1 token, or null for no such limit")
        if not 0 <= self.min_length_ratio <= self.max_length_ratio:
            raise UserError(
                f"min_length_ratio={self.min_length_ratio}: expected 0 to max_length_ratio={self.max_length_ratio}"
            )
        if self.min_length < 0 or (self.max_length is not None and self.min_length > self.max_length):
            raise UserError(
                f"min_length={self.min_length}: expected 0 or more tokens, at most max_length={self.max_length}"
            )

    def of(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Fewest and most tokens (B,) of utterances with `frames` (B,); the most, where one is too short for both."""
        longest = (frames * self.max_length_ratio).long().clamp(min=1, max=self.max_length)
        shortest = (frames * self.min_length_ratio).long().clamp(min=self.min_length)
        return shortest.minimum(longest), longest
