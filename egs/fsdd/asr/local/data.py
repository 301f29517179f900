"""Stage 0: the Free Spoken Digit Dataset as strings of one to six digits, in Kaldi data directories.

The recordings come from a local copy or from their official place, and are compared with the checksums beside this
file. A string joins clips of one speaker with 50 to 250 ms of silence; which clips is drawn with a fixed seed and
written to strings.tsv, whose own checksum is known too: the task is the same everywhere.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

from s2s.data.corpora import fetch_archive, write_kaldi
from s2s.errors import UserError

URL = "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/heads/master.tar.gz"
CHECKSUMS = Path(__file__).with_name("checksums.tsv")
RATE = 8000
WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
UNSEEN = ("lucas", "theo")  # held out wholly by the split `unseen`
MAX_DIGITS = 6

Clip = tuple[int, str, int]  # digit, speaker, take


def takes(split: str, part: str, speaker: str) -> range:
    """Takes of a speaker that belong to a part: officially 0-4 are the test; 5-9 are kept from training to validate."""
    if split == "unseen" and (speaker in UNSEEN) != (part == "test"):
        return range(0)
    if split == "unseen" and part == "test":
        return range(50)
    return {"test": range(5), "dev": range(5, 10), "train": range(10, 50)}[part]


def find_recordings(data_root: str | None, downloads: Path) -> Path:
    """The folder of recordings: a local copy if there is one, else downloaded."""
    if data_root:
        root = Path(data_root)
        for folder in (root / "fsdd", root / "free-spoken-digit-dataset", root):
            if any((folder / "recordings").glob("0_george_0.*")):
                return folder / "recordings"
        raise UserError(
            f"{root}: holds no fsdd/recordings; expected a folder with a copy of the dataset in fsdd/ or "
            "free-spoken-digit-dataset/, or the copy itself (--data-root, S2S_DATA). Leave both unset to download it"
        )
    if not (downloads / "recordings").is_dir():
        fetch_archive(URL, downloads, place)
    return downloads / "recordings"


def place(path: Path) -> Path | None:
    """Where a file of the repository's archive belongs: its recordings."""
    return Path("recordings", path.name) if path.parent.name == "recordings" and path.suffix == ".wav" else None


def read_clips(recordings: Path) -> dict[Clip, np.ndarray]:
    """The samples of all 3,000 clips, compared with the checksums (over samples, so FLAC or WAV are the same)."""
    clips: dict[Clip, np.ndarray] = {}
    digests: dict[str, str] = {}
    for speaker in SPEAKERS:
        for digit in range(10):
            digest = hashlib.sha256()
            for take in range(50):
                name = f"{digit}_{speaker}_{take}"
                found = [p for p in (recordings / f"{name}.flac", recordings / f"{name}.wav") if p.is_file()]
                if not found:
                    raise UserError(f"{recordings}/{name}.wav: no such file; the copy of the dataset is incomplete")
                try:
                    samples, rate = soundfile.read(found[0], dtype="int16")
                except soundfile.SoundFileError as error:
                    raise UserError(f"{found[0]}: cannot be read: {error}; copy the dataset again") from error
                if rate != RATE or samples.ndim != 1:
                    raise UserError(
                        f"{found[0]}: expected one channel at {RATE} Hz, got shape {samples.shape} at {rate}"
                    )
                digest.update(samples.astype("<i2").tobytes())
                clips[digit, speaker, take] = samples
            digests[f"{digit}_{speaker}"] = digest.hexdigest()
    expected = dict(line.split("\t") for line in CHECKSUMS.read_text().splitlines() if not line.startswith("#"))
    for name, digest in digests.items():
        if expected[name] != digest:
            raise UserError(
                f"{recordings}/{name}_*: the samples differ from those of the official dataset (checksum "
                f"{digest[:12]}..., expected {expected[name][:12]}...); copy or download them again"
            )
    return clips


def draw_strings(split: str, part: str, passes: int) -> list[tuple[str, list[Clip], list[int]]]:
    """Strings (id, clips, samples of silence after each but the last), every clip in `passes` of them.

    Only `random()` is drawn from, whose sequence Python guarantees.
    """
    chance = random.Random(f"fsdd {split} {part}")
    strings = []
    for speaker in SPEAKERS:
        for number in range(passes):
            left = [(digit, speaker, take) for digit in range(10) for take in takes(split, part, speaker)]
            left = [clip for _, clip in sorted((chance.random(), clip) for clip in left)]
            while left:
                size = 1 + int(chance.random() * MAX_DIGITS)
                chosen, left = left[:size], left[size:]
                gaps = [round(RATE * (0.05 + 0.2 * chance.random())) for _ in chosen[1:]]
                strings.append((f"{speaker}-{part}-{number}-{len(strings):04d}", chosen, gaps))
    return sorted(strings)


def strings_table(strings: list[tuple[str, list[Clip], list[int]]]) -> str:
    """The list of strings as text: id, clips, gaps in samples."""
    rows = ["id\tclips\tgaps"]
    for name, chosen, gaps in strings:
        rows.append(f"{name}\t{' '.join('_'.join(map(str, clip)) for clip in chosen)}\t{' '.join(map(str, gaps))}")
    return "\n".join(rows) + "\n"


def joined(
    strings: list[tuple[str, list[Clip], list[int]]], clips: dict[Clip, np.ndarray]
) -> Iterator[tuple[str, np.ndarray, dict[str, str]]]:
    """Id, samples and lines of each string."""
    for name, chosen, gaps in strings:
        pieces = [clips[chosen[0]]]
        for gap, clip in zip(gaps, chosen[1:], strict=True):
            pieces += [np.zeros(gap, dtype=np.int16), clips[clip]]
        text = " ".join(WORDS[digit] for digit, _, _ in chosen)
        yield name, np.concatenate(pieces), {"text": text, "utt2spk": chosen[0][1]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--split", choices=("official", "unseen"), default="official", help="unseen: two speakers held out"
    )
    parser.add_argument(
        "--data-root", default=os.environ.get("S2S_DATA"), help="folder with a copy (default: $S2S_DATA)"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for train/, dev/ and test/")
    parser.add_argument("--passes", type=int, default=3, help="strings each clip is in")
    parser.add_argument("--downloads", type=Path, default=Path("downloads"), help="where a download is kept")
    options = parser.parse_args()

    clips = read_clips(find_recordings(options.data_root, options.downloads))
    expected = dict(
        line.lstrip("# ").split("\t") for line in CHECKSUMS.read_text().splitlines() if line.startswith("#")
    )
    for part in ("train", "dev", "test"):
        strings = draw_strings(options.split, part, options.passes)
        key = f"strings {options.split} {part} {options.passes}"
        digest = hashlib.sha256(strings_table(strings).encode()).hexdigest()
        if key in expected and expected[key] != digest:
            raise UserError(
                f"{part}: the list of strings drawn here is not the recipe's own (checksum {digest[:12]}...)"
            )
        write_kaldi(options.out / part, joined(strings, clips), RATE)
        (options.out / part / "strings.tsv").write_text(strings_table(strings), encoding="utf-8")
        words = sum(len(chosen) for _, chosen, _ in strings)
        print(f"{options.out / part}: {len(strings)} strings, {words} digits")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
