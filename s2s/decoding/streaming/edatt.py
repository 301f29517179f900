"""EDAtt: attention to the end of the source means that more of it is needed."""

from __future__ import annotations

from dataclasses import dataclass

from s2s.decoding.streaming.policy import Proposal, check_least, num_before
from s2s.errors import UserError


@dataclass(frozen=True)
class EDAtt:
    """Commits to the tokens before the first whose attention to the last λ frames sums to α or more.

    Papi, Negri and Turchi 2023, "Attention as a guide for simultaneous speech translation", arXiv:2212.07850: λ is
    `frames`, α is `alpha`. The smaller α, the later. Raises UserError for values out of range.
    """

    alpha: float = 0.1
    frames: int = 2
    needs_attention = True
    shows_guesses = True

    def __post_init__(self) -> None:
        if not 0.0 < self.alpha <= 1.0:
            raise UserError(f"policy.alpha={self.alpha}: expected a number above 0, at most 1, such as 0.1")
        check_least("frames", self.frames, 1)

    def start(self) -> None:
        return None

    def commit(self, proposal: Proposal, state: None) -> tuple[int, None]:
        assert proposal.attention is not None
        late = proposal.attention[:, max(0, proposal.heard - self.frames) :].sum(dim=1) >= self.alpha  # (U',)
        return proposal.num_committed + num_before(late.tolist()), None
