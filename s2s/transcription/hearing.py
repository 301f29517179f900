"""A window of audio on its way through Whisper, and when its text is not believed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from s2s.audio.windows import Window
from s2s.decoding.hypothesis import Hypothesis
from s2s.models.memory import Memory


@dataclass(frozen=True)
class Doubt:
    """When a text is not believed (Radford et al. 2022, section 4.5); None: not looked at.

    Attributes:
        temperatures: of the samples that are drawn, one after another, while the text before is in doubt.
        best_of: samples drawn, the best of which counts.
        max_compression_ratio: a text that zlib makes smaller by more is a loop.
        min_log_prob: a text whose mean log P of a token is lower is a guess.
        max_no_speech: a guess, where silence is more probable than this, is silence.
    """

    temperatures: tuple[float, ...] = (0.2, 0.4, 0.6, 0.8, 1.0)
    best_of: int = 5
    max_compression_ratio: float | None = 2.4
    min_log_prob: float | None = -1.0
    max_no_speech: float | None = 0.6


@dataclass
class Hearing:
    """A window on its way through the passes: what is asked, and what has been found so far."""

    window: Window
    language: str | None
    timestamps: bool
    previous: Sequence[int] = ()
    no_speech_prob: float = 0.0
    temperature: float = 0.0
    hypotheses: list[Hypothesis] = field(default_factory=list)
    memory: Memory | None = None
    size: int = 0  # samples that the memory is of, silence counted

    @property
    def best(self) -> Hypothesis:
        return self.hypotheses[0]

    @property
    def log_prob(self) -> float:
        """Mean of a token of the best hypothesis, its end counted."""
        return self.best.scores["attention"] / (len(self.best.tokens) + 1)
