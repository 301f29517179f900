"""The recordings of scored utterances, as small files within a page or as links."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from s2s.cli.inputs import collect
from s2s.errors import UserError

if TYPE_CHECKING:
    from lhotse.cut import Cut
    from torch import Tensor

MOST_HERTZ = 16000  # enough for speech


@dataclass(frozen=True)
class Clip:
    """One utterance's audio: its file, the seconds of it that count (`end` None: all), and what reads its samples."""

    path: Path
    start: float
    end: float | None
    read: Callable[[], tuple[Tensor, int]]

    def flac(self) -> bytes:
        """The samples as a FLAC file, 16 bits, at most 16 kHz."""
        import soundfile

        from s2s.audio.resample import resample

        samples, rate = self.read()
        samples = resample(samples, rate, min(rate, MOST_HERTZ)).clamp(-1, 1)
        file = io.BytesIO()
        soundfile.write(file, samples.numpy(), min(rate, MOST_HERTZ), format="FLAC", subtype="PCM_16")
        return file.getvalue()

    def link(self, page: Path) -> str:
        """The address of the file relative to a page, with the part to play."""
        place = quote(Path(os.path.relpath(self.path, page.parent)).as_posix())
        return place if self.end is None else f"{place}#t={self.start:g},{self.end:g}"


def find_clips(source: Path, ids: Sequence[str]) -> dict[str, Clip]:
    """The audio of these utterances, in their order, those without any left out.

    `source` is a Kaldi data directory or its wav.scp, a file of Lhotse cuts, or a folder of files named by utterance
    id. Raises UserError where there is audio of none of them.
    """
    folder = source.parent if source.name == "wav.scp" else source
    plain = folder.is_dir() and not (folder / "wav.scp").is_file()
    found = _by_name(folder, ids) if plain else _by_corpus(folder, ids)
    if not found:
        raise UserError(
            f"{source}: audio of none of the {len(ids)} utterances, '{ids[0]}' for one; "
            "expected a Kaldi data directory, its wav.scp, Lhotse cuts, or a folder of files named by utterance id"
        )
    return found


def _by_name(folder: Path, ids: Sequence[str]) -> dict[str, Clip]:
    files: dict[str, list[Path]] = {}
    for each in collect([folder]):
        if each.path is not None:
            files.setdefault(each.path.stem, []).append(each.path)
    for name in ids:
        if len(files.get(name, [])) > 1:
            raise UserError(f"{files[name][0]} and {files[name][1]}: two files of utterance '{name}'; keep one of them")
    return {name: Clip(files[name][0], 0.0, None, _reader(files[name][0])) for name in ids if name in files}


def _by_corpus(source: Path, ids: Sequence[str]) -> dict[str, Clip]:
    from s2s.data.corpus import load_corpus
    from s2s.data.cuts import audio_files, recorded

    cuts = {cut.id: cut for cut in load_corpus(source).cuts if recorded(cut) == [cut] and audio_files(cut)}
    clips = {}
    for name in ids:
        if name in cuts:
            cut = cuts[name]
            whole = cut.start == 0 and abs(cut.duration - cut.recording.duration) < 1e-6
            end = None if whole else cut.start + cut.duration
            clips[name] = Clip(Path(audio_files(cut)[0]), cut.start, end, _cut_reader(cut))
    return clips


def _reader(path: Path) -> Callable[[], tuple[Tensor, int]]:
    from s2s.audio.read import read_audio

    return lambda: read_audio(path)


def _cut_reader(cut: Cut) -> Callable[[], tuple[Tensor, int]]:
    from s2s.data.samples import load_samples

    return lambda: (load_samples(cut), cut.sampling_rate)
