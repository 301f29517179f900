"""Recordings of speakers who talk at once, made of recordings of one each."""

from __future__ import annotations

import random
from collections.abc import Iterable
from itertools import pairwise

from lhotse import CutSet
from lhotse.cut import Cut
from lhotse.utils import fastcopy

from s2s.data.cuts import speaker, text
from s2s.errors import UserError


def overlapped(cuts: Iterable[Cut], num_speakers: int, seed: int, least_delay: float, change: str) -> CutSet:
    """Every utterance with those of other speakers mixed in, `num_speakers` in all, as long as there are others.

    Each begins `least_delay` seconds or more after the one before, and before that one ends where it is long enough.
    The text is that of all, in the order in which they begin, `change` in between: serialised output (Kanda et al.
    2020, arXiv:2003.12687). Utterances without text are left out; the audio stays where it is.
    Raises UserError where there are too few speakers, or a text has `change` in it.
    """
    chance = random.Random(seed)
    left = [cut for cut in cuts if text(cut)]
    talkers = {cut.id: speaker(cut) for cut in left}
    for cut in left:
        if change in (text(cut) or ""):
            raise UserError(f"utterance {cut.id}: '{change}' is in its text; choose another mark with --change")
    if len(set(talkers.values())) < num_speakers:
        raise UserError(
            f"{len(set(talkers.values()))} speakers are named, expected at least {num_speakers}; name them "
            "(utt2spk, or `speaker` of the supervisions)"
        )
    chance.shuffle(left)
    mixtures = []
    while left:
        group = [left.pop()]
        while len(group) < num_speakers:
            own = {talkers[cut.id] for cut in group}
            other = next((i for i in reversed(range(len(left))) if talkers[left[i].id] not in own), None)
            if other is None:
                break
            group.append(left.pop(other))
        if len(group) == num_speakers:
            mixtures.append(_mixture(group, chance, least_delay, change))
    return CutSet.from_cuts(mixtures)


def _mixture(group: list[Cut], chance: random.Random, least_delay: float, change: str) -> Cut:
    mixed, begin = group[0], 0.0
    for before, cut in pairwise(group):
        begin += chance.uniform(least_delay, max(least_delay, before.duration))
        mixed = mixed.mix(_other(cut, mixed.sampling_rate), offset_other_by=begin, allow_padding=True)
    said = f" {change} ".join(text(cut) or "" for cut in group)
    whole = fastcopy(group[0].supervisions[0], start=0.0, duration=mixed.duration, text=said)
    name = "+".join(cut.id for cut in group)
    first, *others = mixed.drop_supervisions().tracks
    first = fastcopy(first, cut=fastcopy(first.cut, supervisions=[whole]))
    return fastcopy(mixed, id=name, tracks=[first, *others])


def _other(cut: Cut, sampling_rate: int) -> Cut:
    cut = fastcopy(cut, custom=None)  # what else is known of a mixture is what is known of its first
    return cut if cut.sampling_rate == sampling_rate else cut.resample(sampling_rate)
