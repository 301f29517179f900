"""Which frames a label is attended to in, by the segment that it ends."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from s2s.errors import UserError, nearest

KINDS = ("segment", "window", "global")


@dataclass(frozen=True)
class Segments:
    """The frames that a label sees, whose segment goes from frame `start` to before frame `end`.

    Attributes:
        kind: "segment": those of the segment, of a longer one the last `max_frames`; "window": the segment's last frame
            and those around it; "global": all frames of the utterance.
        max_frames: see above; so a search need not keep more frames, however long a pause.
        left, right: so many frames more on each side of a segment, or of its last frame in a window.
    """

    kind: str = "segment"
    max_frames: int = 32
    left: int = 0
    right: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UserError(f"kind={self.kind}: expected one of {', '.join(KINDS)}.{nearest(self.kind, KINDS)}")
        if self.max_frames < 1:
            raise UserError(f"max_frames={self.max_frames}: expected at least 1 frame")
        if self.max_frames != Segments.max_frames and self.kind != "segment":
            raise UserError(f"max_frames={self.max_frames}: has no effect with kind={self.kind}; leave it out")
        for name in ("left", "right"):
            value = getattr(self, name)
            if value < 0:
                raise UserError(f"{name}={value}: expected 0 or more frames")
            if value and self.kind == "global":
                raise UserError(f"{name}={value}: has no effect with kind=global; leave it out")

    @property
    def before(self) -> int | None:
        """The most frames before the last one of a segment that are seen; None: all."""
        if self.kind == "segment":
            return self.max_frames - 1 + self.left
        return self.left if self.kind == "window" else None

    @property
    def after(self) -> int | None:
        """The most frames after a segment that are seen; None: all."""
        return None if self.kind == "global" else self.right

    @property
    def num_lengths(self) -> int:
        """How many lengths of a segment make a difference to what is seen: from 1 to this; longer ones are as this."""
        return self.max_frames if self.kind == "segment" else 1

    def shown(self, starts: Tensor, ends: Tensor, frames: Tensor) -> Tensor:
        """Segments (...,U) from `starts` to before `ends`, numbers of frames (...,T) -> which see which (...,U,T) bool.

        Numbers may be of frames before the first or behind the last one of an utterance, as if these were there.
        """
        starts, ends, frames = starts.unsqueeze(-1), ends.unsqueeze(-1), frames.unsqueeze(-2)
        if self.kind == "global":
            return torch.ones_like(frames < ends)
        first = torch.maximum(starts, ends - self.max_frames) if self.kind == "segment" else ends - 1
        return (frames >= first - self.left) & (frames < ends + self.right)
