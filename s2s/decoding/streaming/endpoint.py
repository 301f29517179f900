"""End points: when an utterance of a stream is over."""

from __future__ import annotations

from dataclasses import dataclass, fields

from s2s.decoding.streaming.partial import Partial
from s2s.errors import UserError

ROUNDING = 1e-6  # s: 25 frames of 0.04 s are a second, whatever their product is


@dataclass(frozen=True)
class EndpointConfig:
    """The rules of WeNet, which took them from Kaldi, in seconds; 0 or None: a rule is off.

    Attributes:
        start_silence: an utterance in which nothing was recognised is over after so much silence.
        end_silence: one in which something was recognised is over after so much silence behind it.
        max_length: any utterance is over after so much audio.
    """

    start_silence: float | None = 5.0
    end_silence: float | None = 1.0
    max_length: float | None = 20.0

    def __post_init__(self) -> None:
        for key in fields(self):
            value = getattr(self, key.name)
            if value is not None and not value >= 0:
                raise UserError(f"endpoint.{key.name}={value}: expected a number of seconds, or 0 for never")


def end_point(
    config: EndpointConfig, partial: Partial, seconds_per_frame: float, silence: float | None = None
) -> str | None:
    """The rule by which an utterance is over, or None: it goes on.

    Silent are the frames after the last token, blanks to CTC; with a voice activity detector the `silence` that it
    tells of, in seconds up to now, counts too, where it is longer. Of a hypothesis whose frames are not known nothing
    but that counts.
    """
    tokens, frames = partial.hypothesis.tokens, partial.hypothesis.frames
    blanks = partial.heard
    if tokens:
        blanks = partial.heard - frames[-1][1] if frames else 0
    silent = max(blanks * seconds_per_frame, silence or 0.0)
    heard = partial.heard * seconds_per_frame
    for name, seconds in (("end_silence" if tokens else "start_silence", silent), ("max_length", heard)):
        limit = getattr(config, name)
        if limit and seconds >= limit - ROUNDING:
            return name
    return None
