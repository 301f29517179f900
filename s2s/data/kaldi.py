"""Kaldi data directories: `wav.scp`, `segments`, `text`, `utt2spk`, `utt2lang`, `utt2dur`; `text.fr`, ...."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lhotse import CutSet, MonoCut, MultiCut, Recording, SupervisionSegment
from lhotse.cut import Cut

from s2s.audio.read import AudioInfo
from s2s.data.cuts import audio_files, language, origin, speaker, text, translations
from s2s.data.problems import Problem
from s2s.data.recordings import headers, locate, recording
from s2s.errors import UserError
from s2s.files import replacing

FILES = ("wav.scp", "segments", "text", "utt2spk", "utt2lang", "utt2dur")
TRANSLATION = "text."  # and the code of a language
COMMANDS = {"cat", "ffmpeg", "flac", "gunzip", "mpg123", "sox", "sph2pipe", "wget", "zcat"}
ROUNDING = 0.01  # seconds; `segments` is often written with two decimals


@dataclass(frozen=True)
class Line:
    """The rest of a line after its first field, and where it stands."""

    value: str
    where: str


@dataclass(frozen=True)
class Segment:
    """One utterance as written: `end` None is the end of the recording, `channel` None is the mean of all channels."""

    recording: str
    start: float
    end: float | None
    channel: int | None
    where: str


def read_kaldi(folder: str | os.PathLike[str]) -> tuple[CutSet, list[Problem]]:
    """The utterances of a Kaldi data directory, in file order, and what is wrong with the others.

    Only the headers of the audio files are read. An utterance without usable audio is left out. One without text
    stays, beside its problem; where there is no file `text` at all, that is no problem.
    Raises UserError, with file and line, for what is malformed, twice there, or unknown.
    """
    folder = Path(folder)
    scp = _read(folder / "wav.scp")
    paths = {key: locate(_plain_path(line), folder) for key, line in scp.items()}
    segments = _segments(folder, scp)
    texts = _read_known(folder / "text", segments)
    speakers = _read_known(folder / "utt2spk", segments)
    languages = _read_known(folder / "utt2lang", segments)
    others = {path.name.removeprefix(TRANSLATION): _read_known(path, segments) for path in _translations(folder)}
    infos = headers(paths[segment.recording] for segment in segments.values())

    cuts: list[Cut] = []
    problems: list[Problem] = []
    recordings: dict[str, Recording] = {}
    for key, segment in segments.items():
        info = infos[paths[segment.recording]]
        if not isinstance(info, AudioInfo):
            problems.append(Problem(info.kind, key, scp[segment.recording].where, info.message))
            continue
        if segment.recording not in recordings:
            recordings[segment.recording] = recording(segment.recording, paths[segment.recording], info)
        words = texts[key].value if texts is not None and key in texts else ""
        said = {code: lines[key].value for code, lines in others.items() if lines and key in lines and lines[key].value}
        spoken = languages[key].value or None if languages is not None and key in languages else None
        cut = _cut(key, segment, recordings[segment.recording], words, speakers, spoken, said)
        if isinstance(cut, Problem):
            problems.append(cut)
            continue
        cuts.append(cut)
        if texts is not None and not words:
            where = texts[key].where if key in texts else segment.where
            problems.append(Problem("no_text", key, where, f"no words in {folder / 'text'}"))
    return CutSet.from_cuts(cuts), problems


def write_kaldi(cuts: Iterable[Cut], folder: str | os.PathLike[str]) -> None:
    """Write cuts as a Kaldi data directory, sorted by id as Kaldi wants; whole or not at all.

    `segments` is written where an utterance is not a whole recording; texts, `utt2spk`, `utt2lang` where there are any.
    Raises UserError for a cut that such a directory cannot hold: audio that is no file, perturbed or mixed.
    """
    cuts = sorted(cuts, key=lambda cut: cut.id.encode())
    scp: dict[str, str] = {}
    for cut in cuts:
        path = _writable(cut)
        if scp.setdefault(cut.recording.id, path) != path:
            raise UserError(
                f"{origin(cut)}: recording {cut.recording.id} is {path}, and {scp[cut.recording.id]} elsewhere"
            )
    folder = Path(folder)
    others = {entry.name for entry in folder.iterdir()} - set(FILES) if folder.is_dir() else set()
    others -= {path.name for path in _translations(folder)}
    if others or folder.is_file():
        raise UserError(
            f"{folder}: holds something else ({', '.join(sorted(others)[:3]) or 'a file'}); name a new folder"
        )
    with replacing(folder) as beside:
        beside.mkdir()
        _write(beside / "wav.scp", ((key, scp[key]) for key in sorted(scp, key=str.encode)))
        if not all(_is_whole(cut) for cut in cuts):
            _write(beside / "segments", ((cut.id, _segment_fields(cut)) for cut in cuts))
        _write(beside / "text", ((cut.id, text(cut)) for cut in cuts))
        _write(beside / "utt2spk", ((cut.id, speaker(cut)) for cut in cuts))
        _write(beside / "utt2lang", ((cut.id, language(cut)) for cut in cuts))
        for code in sorted({code for cut in cuts for code in translations(cut)}):
            _write(beside / f"{TRANSLATION}{code}", ((cut.id, translations(cut).get(code)) for cut in cuts))
        _write(beside / "utt2dur", ((cut.id, _seconds(cut.duration)) for cut in cuts))


def duration_problems(folder: str | os.PathLike[str], cuts: Iterable[Cut], tolerance: float = 0.1) -> list[Problem]:
    """Utterances that do not last what `utt2dur` says, within `tolerance` seconds."""
    declared = _read(Path(folder) / "utt2dur", required=False) or {}
    problems = []
    for cut in cuts:
        line = declared.get(cut.id)
        if line is not None and abs(_number(line.value, line.where, "a duration") - cut.duration) > tolerance:
            message = f"{line.value} s declared, {cut.duration:.3f} s found"
            problems.append(Problem("bad_audio", cut.id, line.where, message))
    return problems


def _read(path: Path, required: bool = True) -> dict[str, Line]:
    """Lines `key value` by key, in file order."""
    if not path.is_file():
        if required:
            raise UserError(f"{path}: no such file; a Kaldi data directory needs it")
        return {}
    lines: dict[str, Line] = {}
    # Only \n ends a line and only blanks and tabs end a field: texts may hold other Unicode spaces.
    for number, raw in enumerate(path.read_bytes().split(b"\n"), start=1):
        where = f"{path}:{number}"
        try:
            fields = re.split(r"[ \t]+", raw.decode("utf-8-sig" if number == 1 else "utf-8").strip(" \t\r"), maxsplit=1)
        except UnicodeDecodeError as error:
            raise UserError(f"{where}: not UTF-8 (byte {error.start + 1}); save the file as UTF-8") from None
        if fields == [""]:
            continue
        if fields[0] in lines:
            raise UserError(f"{where}: '{fields[0]}' stands already in {lines[fields[0]].where}; keep one of them")
        lines[fields[0]] = Line(fields[1] if len(fields) > 1 else "", where)
    if required and not lines:
        raise UserError(f"{path}: no lines; expected `id value` on each")
    return lines


def _read_known(path: Path, known: dict[str, Segment]) -> dict[str, Line] | None:
    """As `_read`, None where there is no such file; every key must be an utterance."""
    if not path.is_file():
        return None
    lines = _read(path, required=False)
    for key, line in lines.items():
        if key not in known:
            raise UserError(f"{line.where}: utterance '{key}' is in no other file; remove the line or add its audio")
    return lines


def _translations(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"{TRANSLATION}*"))


def _plain_path(line: Line) -> str:
    value = line.value
    if not value:
        raise UserError(f"{line.where}: expected `id path`, found no path")
    command = value.split()[0].rsplit("/", 1)[-1] in COMMANDS and " " in value and not Path(value).exists()
    if value.endswith("|") or value.startswith("|") or command:
        raise UserError(
            f"{line.where}: '{value}' is a command; s2s runs none. Run it once into an audio file "
            "(wav, flac, ogg, mp3) and put the path of that file here"
        )
    if value == "-" or re.search(r"\.ark:\d+(\[.*\])?$", value):
        raise UserError(f"{line.where}: '{value}' is not an audio file; copy it out to one and put its path here")
    return value


def _segments(folder: Path, scp: dict[str, Line]) -> dict[str, Segment]:
    path = folder / "segments"
    if not path.is_file():
        return {key: Segment(key, 0.0, None, None, line.where) for key, line in scp.items()}
    return {key: _segment(line, scp) for key, line in _read(path).items()}


def _segment(line: Line, scp: dict[str, Line]) -> Segment:
    fields = line.value.split()
    if len(fields) not in (3, 4):
        raise UserError(
            f"{line.where}: expected `utterance recording start end [channel]`, found {len(fields) + 1} fields"
        )
    if fields[0] not in scp:
        raise UserError(f"{line.where}: recording '{fields[0]}' is not in wav.scp; add it there or remove the line")
    start = _number(fields[1], line.where, "the start")
    end: float | None = _number(fields[2], line.where, "the end")
    if end == -1:  # as Kaldi has it: to the end of the recording
        end = None
    if start < 0 or (end is not None and end <= start):
        raise UserError(
            f"{line.where}: a segment from {fields[1]} to {fields[2]} s; expected 0 <= start < end, in seconds"
        )
    if len(fields) == 4 and not fields[3].isdecimal():
        raise UserError(f"{line.where}: channel '{fields[3]}'; expected 0, 1, ...")
    return Segment(fields[0], start, end, int(fields[3]) if len(fields) == 4 else None, line.where)


def _number(value: str, where: str, what: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise UserError(f"{where}: {what} is '{value}'; expected a number of seconds")
    return number


def _cut(
    key: str,
    segment: Segment,
    whole: Recording,
    words: str,
    speakers: dict[str, Line] | None,
    spoken: str | None,
    translated: dict[str, str],
) -> Cut | Problem:
    end = whole.duration if segment.end is None else segment.end
    if end > whole.duration + ROUNDING or segment.start >= whole.duration:
        message = f"ends at {end:g} s, its recording {whole.id} at {whole.duration:.3f} s"
        return Problem("bad_audio", key, segment.where, message)
    end = min(end, whole.duration)
    channels = whole.channel_ids if segment.channel is None else [segment.channel]
    if channels[-1] not in whole.channel_ids:
        message = f"channel {segment.channel}, but recording {whole.id} has {len(whole.channel_ids)}"
        return Problem("bad_audio", key, segment.where, message)
    channel = channels[0] if len(channels) == 1 else channels
    duration = round(end - segment.start, 8)
    supervision = SupervisionSegment(
        id=key,
        recording_id=whole.id,
        start=0.0,
        duration=duration,
        channel=channel,
        text=words or None,
        speaker=speakers[key].value or None if speakers is not None and key in speakers else None,
        language=spoken,
        custom={"translated_text": translated} if translated else None,
    )
    kind = MonoCut if len(channels) == 1 else MultiCut
    return kind(
        id=key,
        start=segment.start,
        duration=duration,
        channel=channel,
        recording=whole,
        supervisions=[supervision],
        custom={"origin": segment.where},
    )


def _writable(cut: Cut) -> str:
    """The path of the one audio file of a cut that a Kaldi directory can hold."""
    files = audio_files(cut)
    if len(files) != 1 or len(cut.recording.sources) != 1 or cut.recording.transforms:
        raise UserError(f"{origin(cut)}: a Kaldi directory holds plain audio files, one for a recording, unperturbed")
    if len(cut.supervisions) > 1:
        raise UserError(
            f"{origin(cut)}: {len(cut.supervisions)} supervisions; make a cut of each (trim_to_supervisions)"
        )
    if isinstance(cut, MultiCut) and list(cut.channel) != list(cut.recording.channel_ids):
        raise UserError(f"{origin(cut)}: some channels of a recording; a Kaldi directory holds one of them or all")
    for key in (cut.id, cut.recording.id):
        if not key or re.search(r"\s", key):
            raise UserError(f"{origin(cut)}: id '{key}'; a Kaldi directory wants ids without spaces")
    for value in (text(cut), speaker(cut), language(cut), files[0], *translations(cut).values()):
        if value is not None and re.search(r"[\r\n]", value):
            raise UserError(f"{origin(cut)}: '{value}' does not fit on one line")
    return files[0]


def _is_whole(cut: Cut) -> bool:
    """Whether a line of wav.scp alone says it all."""
    one_of_many = isinstance(cut, MonoCut) and len(cut.recording.channel_ids) > 1
    whole = cut.start == 0 and abs(cut.duration - cut.recording.duration) < 1e-6
    return whole and cut.id == cut.recording.id and not one_of_many


def _segment_fields(cut: Cut) -> str:
    fields = [cut.recording.id, _seconds(cut.start), _seconds(cut.start + cut.duration)]
    if isinstance(cut, MonoCut) and len(cut.recording.channel_ids) > 1:
        fields.append(str(cut.channel))
    return " ".join(fields)


def _seconds(value: float) -> str:
    return f"{value:.8f}".rstrip("0").rstrip(".")


def _write(path: Path, rows: Iterable[tuple[str, str | None]]) -> None:
    """Lines `key value` for the values there are; no file where there are none."""
    lines = [f"{key} {value}\n" for key, value in rows if value]
    if lines:
        path.write_text("".join(lines), encoding="utf-8", newline="\n")
