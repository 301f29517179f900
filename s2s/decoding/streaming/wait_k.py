"""Wait-k: a fixed lag behind the source."""

from __future__ import annotations

from dataclasses import dataclass

from s2s.decoding.streaming.policy import Proposal, check_least
from s2s.errors import UserError, nearest

UNITS = ("words", "tokens")


@dataclass(frozen=True)
class WaitK:
    """Commits to the i-th unit of the target when min(k + i - 1, all) pieces of the source are known.

    Ma et al. 2019, "STACL", arXiv:1810.08398; of a model that learned from whole sentences, their test-time wait-k.
    A piece is a word of a text, or `piece_frames` frames of speech (fixed pre-decision: Ma, Pino and Koehn 2020,
    arXiv:2011.02048). A `unit` is a word, or a token as in the paper. Raises UserError for values out of range, and for
    speech without `piece_frames`.
    """

    k: int = 3
    piece_frames: int | None = None
    unit: str = "words"
    needs_attention = False
    shows_guesses = True

    def __post_init__(self) -> None:
        check_least("k", self.k, 1)
        if self.piece_frames is not None:
            check_least("piece_frames", self.piece_frames, 1)
        if self.unit not in UNITS:
            raise UserError(f"policy.unit={self.unit}: expected {' or '.join(UNITS)}.{nearest(self.unit, UNITS)}")

    def start(self) -> None:
        return None

    def commit(self, proposal: Proposal, state: None) -> tuple[int, None]:
        allowed = max(0, self._pieces(proposal) - self.k + 1)
        if self.unit == "tokens":
            return min(allowed, len(proposal.tokens)), None
        firsts = [i for i, begins in enumerate(proposal.begins) if begins or i == 0]
        return firsts[allowed] if allowed < len(firsts) else len(proposal.tokens), None

    def _pieces(self, proposal: Proposal) -> int:
        if self.piece_frames is not None:
            return proposal.heard // self.piece_frames
        if proposal.words is None:
            raise UserError("policy.piece_frames: wait_k reads speech in pieces of so many encoder frames; give it")
        return proposal.words
