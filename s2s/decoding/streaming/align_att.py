"""AlignAtt: a token that is aligned with the end of the source needs more of it."""

from __future__ import annotations

from dataclasses import dataclass

from s2s.decoding.streaming.policy import Proposal, check_least, num_before


@dataclass(frozen=True)
class AlignAtt:
    """Commits to the tokens before the first whose most attended frame is among the last f, `frames`.

    Papi, Turchi and Negri 2023, "AlignAtt", arXiv:2305.11408. The larger f, the later; they tried 2 to 14 frames of
    40 ms. Raises UserError for f below 1.
    """

    frames: int = 8
    needs_attention = True
    shows_guesses = True

    def __post_init__(self) -> None:
        check_least("frames", self.frames, 1)

    def start(self) -> None:
        return None

    def commit(self, proposal: Proposal, state: None) -> tuple[int, None]:
        assert proposal.attention is not None
        late = proposal.attention.argmax(dim=1) >= proposal.heard - self.frames  # (U',)
        return proposal.num_committed + num_before(late.tolist()), None
