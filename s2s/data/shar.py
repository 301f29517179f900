"""Corpora in Lhotse Shar: tar files of audio, read from one end to the other, beside what is known of them."""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

from lhotse import CutSet, Recording
from lhotse.cut import Cut
from lhotse.shar import SharWriter
from lhotse.shar.readers.tar import TarIterator
from lhotse.utils import fastcopy

from s2s.data.buckets import Lengths, cut_to
from s2s.data.jsonl import read_cuts
from s2s.data.problems import Problem
from s2s.data.samples import LOST, load_samples
from s2s.errors import UserError
from s2s.files import replacing

PREFIX = "shar:"
_SHARD, _NAME = "shard", "name_in_shard"
SHARDS_A_RANK = 8  # with fewer, ranks would differ too much in how much they have


def read_shar(folder: Path) -> tuple[CutSet, list[Problem]]:
    """The cuts of a folder with `cuts.*.jsonl.gz` and `recording.*.tar`, and what is wrong with others.

    No audio is read. Raises UserError for any other folder, and as `read_cuts` does.
    """
    manifests = sorted(folder.glob("cuts.*.jsonl*"))
    if not manifests:
        raise UserError(
            f"{PREFIX}{folder}: no cuts.000000.jsonl.gz; expected a folder of Lhotse Shar, which `s2s data shar` writes"
        )
    cuts: list[Cut] = []
    problems: list[Problem] = []
    for manifest in manifests:
        tar = manifest.with_name(re.sub(r"^cuts(\..*?)?\.jsonl.*$", r"recording\1.tar", manifest.name))
        found, wrong = read_cuts(manifest)
        problems += wrong
        for cut in found:
            if not tar.is_file():
                problems.append(Problem("missing_audio", cut.id, str(manifest), f"no file {tar}"))
                continue
            cuts.append(fastcopy(cut, custom={**(cut.custom or {}), _SHARD: str(tar), _NAME: cut.id}))
    return CutSet.from_cuts(cuts), problems


def write_shar(cuts: Iterable[Cut], folder: Path, shard_size: int, advance: Callable[[], None] = lambda: None) -> int:
    """Write cuts with their audio, as FLAC, in that order into a new folder of shards -> how many shards.

    Raises UserError for audio that cannot be read.
    """
    with replacing(folder) as beside:
        beside.mkdir()
        with SharWriter(str(beside), fields={"recording": "flac"}, shard_size=shard_size) as writer:
            for cut in with_audio(cuts):
                load_samples(cut)  # strictly: Lhotse would fill what is missing
                custom = {
                    key: value for key, value in (cut.custom or {}).items() if key not in ("origin", _SHARD, _NAME)
                }
                writer.write(fastcopy(cut, custom=custom or None))
                advance()
        return len(list(beside.glob("recording.*.tar")))


def shard(cut: Cut) -> str | None:
    """The tar file with the audio of a cut, None where it is not in one."""
    return (cut.custom or {}).get(_SHARD)


def shards_of(cuts: Iterable[Cut]) -> dict[str, str]:
    """The shard of each cut; UserError where some have one and others do not."""
    every = {cut.id: shard(cut) for cut in cuts}
    found = {key: path for key, path in every.items() if path is not None}
    if found and len(found) < len(every):
        raise UserError(
            f"data: {PREFIX} folders beside others; shards are read in an order of their own: write all of it with "
            "`s2s data shar`"
        )
    return found


def spread(cuts: Iterable[Cut], number: int) -> list[Cut]:
    """About so many cuts, spread evenly; of shards, those of a few, so that not all need be read."""
    groups: dict[str | None, list[Cut]] = defaultdict(list)
    for cut in cuts:
        groups[shard(cut)].append(cut)
    count = sum(map(len, groups.values()))
    needed = max(1, -(-number * len(groups) // max(1, count)))
    every = list(groups.values())
    chosen = [cut for index in range(needed) for cut in every[index * len(every) // needed]]
    return chosen[:: max(1, len(chosen) // number)]


def planned(
    lengths: Mapping[str, Lengths],
    shards: Mapping[str, str],
    batches_of: Callable[[Mapping[str, Lengths], int], list[list[str]]],
    at_once: int,
    seed: int,
    rank: int = 0,
    world_size: int = 1,
) -> list[list[str]]:
    """The batches of one rank from shards in random order, of `at_once` shards at a time; as many as each rank has.

    `batches_of` makes batches of some utterances with a seed. A rank reads only its own shards where there are many,
    and where there are few, its batches out of all.
    """
    chance = random.Random(seed)
    content: dict[str, list[str]] = defaultdict(list)
    for key in lengths:
        content[shards[key]].append(key)
    order = sorted(content)
    chance.shuffle(order)

    def batches(own: Sequence[str]) -> list[list[str]]:
        made = []
        for first in range(0, len(own), at_once):
            keys = [key for path in own[first : first + at_once] for key in content[path]]
            made += batches_of({key: lengths[key] for key in keys}, chance.getrandbits(32))
        return made

    if len(order) < SHARDS_A_RANK * world_size:
        every = batches(order)
        return cut_to(every, -(-len(every) // world_size) * world_size)[rank::world_size]
    parts = [batches(order[number::world_size]) for number in range(world_size)]  # so that all know of the others
    return cut_to(parts[rank], max(map(len, parts)))


def with_audio(cuts: Iterable[Cut]) -> Iterator[Cut]:
    """The same cuts, those of shards with their audio in them; see `batches_with_audio`."""
    for batch in batches_with_audio([[cut] for cut in cuts]):
        yield from batch


def batches_with_audio(batches: Sequence[Sequence[Cut]]) -> Iterator[list[Cut]]:
    """Batches of cuts, those of shards with their audio in them.

    A shard is read once, from one end to the other, when a batch first needs it; what is not yet used of it is kept in
    memory, still compressed, and the next shard is read meanwhile. A cut whose audio is not found says why (see
    `load_samples`), and the others go on.
    """
    wanted: dict[str, Counter[str]] = defaultdict(Counter)  # in the order of their first use
    for batch in batches:
        for cut in batch:
            if (path := shard(cut)) is not None:
                wanted[path][_name(cut)] += 1
    order, held = iter(wanted.items()), dict[str, tuple[dict[str, Recording], str]]()
    with ThreadPoolExecutor(1) as reader:
        ahead = [reader.submit(_read, *each) for each in islice(order, 1)]
        for batch in batches:
            found = []
            for cut in batch:
                path = shard(cut)
                if path is not None and path not in held:
                    held[path] = ahead.pop().result()
                    ahead = [reader.submit(_read, *each) for each in islice(order, 1)]
                found.append(cut if path is None else _filled(cut, wanted[path], *held[path]))
            yield found


def _filled(cut: Cut, wanted: Counter[str], recordings: dict[str, Recording], reason: str) -> Cut:
    name = _name(cut)
    if name not in recordings:
        return fastcopy(cut, custom={**(cut.custom or {}), LOST: f"{shard(cut)}: {reason}"})
    wanted[name] -= 1
    recording = recordings[name] if wanted[name] else recordings.pop(name)
    return fastcopy(cut, recording=fastcopy(recording, sources=[fastcopy(each) for each in recording.sources]))


def _read(path: str, wanted: Mapping[str, int]) -> tuple[dict[str, Recording], str]:
    """The recordings of those names in a tar file, as far as it can be read, and why others are lost."""
    found: dict[str, Recording] = {}
    reason = "ends before it"
    try:
        for recording, member in TarIterator(path):
            name = str(member.parent / member.stem)
            if name in wanted and recording is not None:
                found[name] = recording
    except Exception as error:  # tarfile, JSON, Lhotse: each has its own
        reason = f"cannot be read to its end ({error})"
    return found, reason


def _name(cut: Cut) -> str:
    return str((cut.custom or {})[_NAME])
