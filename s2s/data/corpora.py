"""What the recipes do alike in stage 0: fetch a corpus, and write it as Kaldi data directories."""

from __future__ import annotations

import tarfile
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import soundfile

from s2s.errors import UserError
from s2s.files import replacing

Place = Callable[[Path], Path | None]  # where a file of an archive belongs, relative to a folder; None: nowhere


def fetch_archive(url: str, folder: Path, place: Place) -> None:
    """Take the files that have a place out of a .tar.gz, all or none. Raises UserError where it cannot be fetched."""
    print(f"downloading {url}")
    with replacing(folder) as beside:
        beside.mkdir(parents=True)
        try:
            with (
                urllib.request.urlopen(url, timeout=60) as response,
                tarfile.open(fileobj=response, mode="r|gz") as archive,
            ):
                take_out(archive, beside, place)
        except (urllib.error.URLError, OSError, tarfile.TarError) as error:
            raise UserError(
                f"cannot download {url} ({error}); get a copy of the corpus another way and name its folder "
                "with --data-root or S2S_DATA"
            ) from error


def take_out(archive: tarfile.TarFile, folder: Path, place: Place) -> None:
    """Write the files of an archive that have a place in `folder`."""
    for member in archive:
        out = place(Path(member.name)) if member.isfile() else None
        content = None if out is None else archive.extractfile(member)
        if out is not None and content is not None:
            (folder / out).parent.mkdir(parents=True, exist_ok=True)
            (folder / out).write_bytes(content.read())


def write_kaldi(
    folder: Path, utterances: Iterable[tuple[str, np.ndarray, Mapping[str, str]]], sampling_rate: int
) -> None:
    """A Kaldi data directory with its audio in it, as FLAC.

    An utterance is its id, its samples (n,) as 16-bit numbers, and its line in each other file: `text`, `utt2spk`, ...
    """
    files: dict[str, list[str]] = defaultdict(list)
    with replacing(folder) as beside:
        (beside / "audio").mkdir(parents=True)
        for name, samples, lines in utterances:
            soundfile.write(beside / "audio" / f"{name}.flac", samples, sampling_rate, subtype="PCM_16")
            files["wav.scp"].append(f"{name} {folder / 'audio' / name}.flac")
            files["utt2dur"].append(f"{name} {len(samples) / sampling_rate:.6f}")
            for file, line in lines.items():
                files[file].append(f"{name} {line}")
        for file, all_lines in files.items():
            (beside / file).write_text("\n".join(all_lines) + "\n", encoding="utf-8")
