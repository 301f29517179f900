"""Noise and rooms around the utterances of a training."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from lhotse import Recording
from lhotse.cut import Cut
from lhotse.utils import fastcopy

from s2s.data.corpus import load_corpus
from s2s.errors import UserError


@dataclass(frozen=True)
class SurroundingsConfig:
    """What training utterances are put into, each anew in every epoch: first into a room, then into noise.

    Attributes:
        noise: Kaldi data directories or Lhotse cuts of noises, of any length and sampling rate.
        noise_share: share of the utterances that get one.
        noise_snr: decibels between which the ratio of speech to noise is drawn.
        rooms: Kaldi data directories or Lhotse cuts of impulse responses, which keep the level of the speech.
        room_share: share of the utterances that get one.
    """

    noise: list[str] = field(default_factory=list)
    noise_share: float = 0.5
    noise_snr: list[float] = field(default_factory=lambda: [10.0, 25.0])
    rooms: list[str] = field(default_factory=list)
    room_share: float = 0.3

    def __post_init__(self) -> None:
        for name in ("noise_share", "room_share"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise UserError(f"data.surroundings.{name} is {getattr(self, name)}; expected a share, from 0 to 1")
        if len(self.noise_snr) != 2 or self.noise_snr[0] > self.noise_snr[1]:
            raise UserError(
                f"data.surroundings.noise_snr is {list(self.noise_snr)}; expected the least and the most decibels, "
                "such as [10, 25]"
            )


class Surroundings:
    """Puts cuts into rooms and noise; what and how is drawn from (seed, epoch, id of the cut) alone.

    Raises UserError, naming the key, where there is no audio in what is named.
    """

    def __init__(self, config: SurroundingsConfig) -> None:
        self.config = config
        self._noises = _audio(config.noise, "data.surroundings.noise")
        self._rooms = _audio(config.rooms, "data.surroundings.rooms")

    def around(self, cut: Cut, seed: int, epoch: int) -> Cut:
        """The cut as it is heard there; its duration, text and whatever else it says stay."""
        chance = random.Random(f"surroundings {seed} {epoch} {cut.id}")
        in_room = chance.random() < self.config.room_share
        in_noise = chance.random() < self.config.noise_share
        if self._rooms and in_room:
            cut = cut.reverb_rir(_recording(chance.choice(self._rooms), cut.sampling_rate), affix_id=False)
        if self._noises and in_noise:
            noise = _stretch(chance.choice(self._noises), cut, chance)
            cut = cut.mix(noise, snr=chance.uniform(*self.config.noise_snr), preserve_id="left")
        return cut


def _audio(paths: list[str], key: str) -> list[Cut]:
    if not paths:
        return []
    # A mixed cut would say what its noise does.
    cuts = [fastcopy(cut, supervisions=[], custom=None) for cut in load_corpus(paths).cuts if cut.duration > 0]
    if not cuts:
        raise UserError(f"{key}={list(paths)}: nothing to hear there")
    return cuts


def _recording(cut: Cut, sampling_rate: int) -> Recording:
    recording: Recording = cut.recording
    return recording if recording.sampling_rate == sampling_rate else recording.resample(sampling_rate)


def _stretch(noise: Cut, cut: Cut, chance: random.Random) -> Cut:
    """A part of the noise as long as the cut, from somewhere in it, repeated where it is shorter."""
    if noise.sampling_rate != cut.sampling_rate:
        noise = noise.resample(cut.sampling_rate)
    offset = chance.uniform(0.0, max(0.0, noise.duration - cut.duration))
    repeated = noise
    while repeated.duration < offset + cut.duration:
        repeated = repeated.append(repeated)
    return repeated.truncate(offset=offset, duration=cut.duration)
