"""Lhotse cuts in `.jsonl` and `.jsonl.gz` files."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from lhotse import CutSet, MonoCut, MultiCut
from lhotse.cut import Cut, MixedCut, PaddingCut
from lhotse.serialization import deserialize_item
from lhotse.utils import fastcopy

from s2s.audio.read import AudioInfo
from s2s.data.cuts import audio_files, origin, recorded, text
from s2s.data.problems import Problem
from s2s.data.recordings import Fault, headers, locate
from s2s.errors import UserError
from s2s.files import replacing


def read_cuts(path: str | os.PathLike[str]) -> tuple[CutSet, list[Problem]]:
    """The cuts of a file, in file order, and what is wrong with the others.

    Only the headers of the audio files are read; what is not a file (a URL) is not looked at. A cut without usable
    audio is left out. One without text stays, beside its problem; where no cut has any, that is no problem.
    Raises UserError, with file and line, for what is no cut of one recording or has an id that is there already.
    """
    path = Path(path)
    read: dict[str, Cut] = {}
    for where, item in _lines(path):
        cut = _cut(where, item, path.parent)
        if cut.id in read:
            raise UserError(f"{where}: cut '{cut.id}' stands already in {origin(read[cut.id])}; keep one of them")
        read[cut.id] = cut
    if not read:
        raise UserError(f"{path}: no cuts")

    infos = headers(Path(file) for cut in read.values() for file in audio_files(cut))
    has_text = any(text(cut) for cut in read.values())
    cuts: list[Cut] = []
    problems: list[Problem] = []
    for cut in read.values():
        fault = _fault(cut, infos)
        if fault is not None:
            problems.append(Problem(fault.kind, cut.id, origin(cut), fault.message))
            continue
        cuts.append(cut)
        if has_text and not text(cut):
            problems.append(Problem("no_text", cut.id, origin(cut), "its supervisions have no text"))
    return CutSet.from_cuts(cuts), problems


def write_cuts(cuts: Iterable[Cut], path: str | os.PathLike[str]) -> None:
    """Write cuts, a line each, compressed where the name ends in `.gz`; whole or not at all."""
    path = Path(path)
    with replacing(path) as beside:
        lines = (json.dumps(_record(cut), ensure_ascii=False) + "\n" for cut in cuts)
        if path.suffix == ".gz":
            with gzip.open(beside, "wt", encoding="utf-8") as file:
                file.writelines(lines)
        else:
            with beside.open("w", encoding="utf-8") as file:
                file.writelines(lines)


def _record(cut: Cut) -> dict[str, Any]:
    if isinstance(cut, MixedCut):
        tracks = [fastcopy(track, cut=_without_origin(track.cut)) for track in cut.tracks]
        return fastcopy(cut, tracks=tracks).to_dict()
    return _without_origin(cut).to_dict()


def _without_origin(cut: Cut) -> Cut:
    if isinstance(cut, PaddingCut):
        return cut
    custom = {key: value for key, value in (cut.custom or {}).items() if key != "origin"}
    return fastcopy(cut, custom=custom or None)


def _lines(path: Path) -> Iterator[tuple[str, Any]]:
    number = 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield f"{path}:{number}", json.loads(line.decode("utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{path}:{number}: not a line of JSON ({error}); expected a Lhotse cut") from None
    except (EOFError, OSError) as error:  # gzip's own errors are of these two
        raise UserError(f"{path}: cannot be read after line {number} ({error}); write it again") from None


def _cut(where: str, item: Any, folder: Path) -> Cut:
    expected = "expected a MonoCut or MultiCut of a recording, or a MixedCut of them, as `CutSet.to_file` writes them"
    try:
        cut = deserialize_item(item)
    except Exception as error:  # Lhotse raises whatever the first missing key leads to
        raise UserError(f"{where}: not a Lhotse cut ({type(error).__name__}: {error}); {expected}") from None
    for part in recorded(cut) if isinstance(cut, Cut) else [cut]:
        if not isinstance(part, MonoCut | MultiCut):
            raise UserError(f"{where}: a {type(part).__name__}; {expected}")
        if part.recording is None:
            raise UserError(f"{where}: cut '{part.id}' has no recording; {expected}")
        for source in part.recording.sources:
            if source.type == "file":
                source.source = str(locate(source.source, folder))
            elif source.type == "command":
                raise UserError(
                    f"{where}: the audio is the command '{source.source}'; s2s runs none, write it to a file"
                )
    first = recorded(cut)[0]  # a mixed cut says what its first one does
    first.custom = {**(first.custom or {}), "origin": where}
    return cut


def _fault(cut: Cut, infos: dict[Path, AudioInfo | Fault]) -> Fault | None:
    """What is wrong with the audio of a cut, as far as headers tell."""
    return next(filter(None, (_fault_of(part, infos) for part in recorded(cut))), None)


def _fault_of(cut: Cut, infos: dict[Path, AudioInfo | Fault]) -> Fault | None:
    recording = cut.recording
    for file in audio_files(cut):
        info = infos[Path(file)]
        if isinstance(info, Fault):
            return info
        # A perturbed recording declares the length and rate it has after its transforms.
        if not recording.transforms:
            if info.sampling_rate != recording.sampling_rate:
                return Fault("bad_audio", f"{recording.sampling_rate} Hz declared, {info.sampling_rate} Hz in {file}")
            if abs(info.duration - recording.duration) > 0.01:
                return Fault("bad_audio", f"{recording.duration:.3f} s declared, {info.duration:.3f} s in {file}")
    if cut.end > recording.duration + 0.01:
        return Fault("bad_audio", f"ends at {cut.end:g} s, its recording {recording.id} at {recording.duration:.3f} s")
    return None
