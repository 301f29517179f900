"""What the recipes do alike in stage 0: fetch a corpus, and write it as data directories."""

from __future__ import annotations

import gzip
import tarfile
import urllib.error
import urllib.request
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
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


def fetch_file(url: str, path: Path) -> None:
    """Download a file, whole or not at all; one that is there stays. UserError where it cannot be fetched."""
    if path.exists():
        return
    print(f"downloading {url}")
    try:
        with urllib.request.urlopen(url, timeout=60) as response, replacing(path) as beside:
            beside.write_bytes(response.read())
    except (urllib.error.URLError, OSError) as error:
        raise UserError(
            f"cannot download {url} ({error}); get a copy of the corpus another way and name its folder "
            "with --data-root or S2S_DATA"
        ) from error


def find_file(name: str, data_root: str | None, folders: Sequence[str], url: str, downloads: Path) -> Path:
    """A file of a corpus: in one of the `folders` of a local copy if one is named, else downloaded from `url`."""
    if not data_root:
        fetch_file(url, downloads / name)
        return downloads / name
    root = Path(data_root)
    for folder in (*folders, "."):
        if (root / folder / name).is_file():
            return root / folder / name
    raise UserError(
        f"{root}: holds no copy of the corpus; expected {name} in {', '.join(f'{folder}/' for folder in folders)} or "
        "the folder itself (--data-root, S2S_DATA). Leave both unset to download it"
    )


def read_text(path: Path) -> list[str]:
    """The lines of a UTF-8 file, plain or gzip. Only a line feed ends a line. UserError where it cannot be read."""
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
        return content.decode("utf-8").removesuffix("\n").split("\n")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); copy or download it again") from error


def read_table(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a file of tab-separated values, whose first line names its columns.

    Raises UserError, with the line, where one of `columns` or a value is missing.
    """
    header, *rows = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    names = header.split("\t")
    if missing := [column for column in columns if column not in names]:
        raise UserError(f"{path}:1: no column {', '.join(missing)}; expected {', '.join(columns)}")
    found = []
    for number, row in enumerate(rows, start=2):
        values = row.split("\t")
        if len(values) != len(names):
            raise UserError(f"{path}:{number}: {len(values)} columns, expected {len(names)}; copy the corpus again")
        found.append(dict(zip(names, values, strict=True)))
    return found


def read_recording(path: Path, sampling_rate: int) -> np.ndarray:
    """The samples (n,) of a recording of one channel, as 16-bit numbers; UserError for any other, or a broken one."""
    try:
        samples, rate = soundfile.read(path, dtype="int16")
    except soundfile.SoundFileError as error:
        raise UserError(f"{path}: cannot be read: {error}; copy the corpus again") from error
    if samples.ndim != 1 or rate != sampling_rate:
        raise UserError(f"{path}: expected one channel at {sampling_rate} Hz, got shape {samples.shape} at {rate} Hz")
    return samples


def write_parallel(folder: Path, texts: Mapping[str, Iterable[str]]) -> None:
    """A folder of parallel text: the lines of each language in `text.LANGUAGE`."""
    with replacing(folder) as beside:
        beside.mkdir(parents=True)
        for language, lines in texts.items():
            content = "".join(f"{' '.join(line.split())}\n" for line in lines)
            (beside / f"text.{language}").write_text(content, encoding="utf-8")


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
