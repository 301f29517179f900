"""Stage 0: Kerstin, German sentences read by one speaker, as Kaldi data directories.

The sentence decides in which part its recordings are: 8 in 100 are the test, 5 in 100 to validate on, by a hash of the
text, so that no sentence is in two parts and any copy of the corpus is divided alike. A copy may lack some recordings
(the checksums are of one with 1,274 of 1,374), so the number of utterances belongs to every result.

Texts: Unicode NFC, lower case, hyphens as spaces, no other punctuation. Sentences with figures are left out aloud: how
they were read is not written.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import os
import sys
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from s2s.audio.read import read_audio
from s2s.data.corpora import fetch_archive, write_kaldi
from s2s.errors import UserError

URL = "https://github.com/rhasspy/dataset-voice-kerstin/archive/refs/heads/master.tar.gz"
CHECKSUMS = Path(__file__).with_name("checksums.tsv")
RATE = 16000
TEST, DEV = 8, 5  # of 100 sentences


@dataclass(frozen=True)
class Utterance:
    """A recording and what is said."""

    name: str
    audio: Path
    text: str


def normalised(text: str) -> str:
    """Words of letters alone, lower case."""
    text = unicodedata.normalize("NFC", text).lower().replace("-", " ").replace("–", " ")
    return " ".join("".join(c for c in text if c.isalnum() or c.isspace()).split())


def part_of(text: str) -> str:
    """Which part a sentence belongs to."""
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % 100
    return "test" if number < TEST else "dev" if number < TEST + DEV else "train"


def find_corpus(data_root: str | None, downloads: Path) -> Path:
    """The folder of the corpus: a local copy if there is one, else downloaded."""
    if data_root:
        root = Path(data_root)
        for folder in (root / "kerstin-german-cc0", root / "dataset-voice-kerstin", root):
            if (folder / "metadata.tsv").is_file() or (folder / "metadata.csv").is_file():
                return folder
        raise UserError(
            f"{root}: holds no copy of the corpus; expected metadata.csv and verified/ as in its repository, or "
            "metadata.tsv with the columns id, path and text, in kerstin-german-cc0/, dataset-voice-kerstin/ or the "
            "folder itself (--data-root, S2S_DATA). Leave both unset to download it"
        )
    if not (downloads / "metadata.csv").is_file():
        fetch_archive(URL, downloads, place)
    return downloads


def place(path: Path) -> Path | None:
    """Where a file of the repository's archive belongs: the cleaned recordings and their texts."""
    if path.parent.name == "verified" and path.suffix == ".flac":
        return Path("verified", path.name)
    return Path(path.name) if path.name == "metadata.csv" else None


def read_corpus(corpus: Path) -> list[Utterance]:
    """Its utterances, sorted, without those whose texts have figures or no words."""
    found = read_table(corpus / "metadata.tsv") if (corpus / "metadata.tsv").is_file() else read_official(corpus)
    for utterance in found:
        if not utterance.audio.is_file():
            raise UserError(f"{utterance.audio}: no such file; the copy of the corpus is incomplete")
    kept = [u for u in found if u.text and not any(c.isdigit() for c in u.text)]
    if len(kept) < len(found):
        left_out = sorted({u.name for u in found} - {u.name for u in kept})
        print(f"{corpus}: {len(left_out)} of {len(found)} left out, figures or no words: {', '.join(left_out[:5])}")
    if not kept:
        raise UserError(f"{corpus}: no utterances; copy or download the corpus again")
    return sorted(kept, key=lambda utterance: utterance.name)


def read_table(path: Path) -> list[Utterance]:
    """A tab-separated table with the columns id, path (relative to its folder) and text."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        if missing := [name for name in ("id", "path", "text") if name not in (rows.fieldnames or ())]:
            raise UserError(f"{path}:1: no column {', '.join(missing)}; expected id, path and text")
        found = []
        for number, row in enumerate(rows, start=2):
            if None in row or None in row.values():
                raise UserError(f"{path}:{number}: not as many columns as the first row has; copy the corpus again")
            found.append(Utterance(row["id"], path.parent / row["path"], normalised(row["text"])))
        return found


def read_official(corpus: Path) -> list[Utterance]:
    """metadata.csv, `ID|TEXT` a line, and verified/ID.flac, as in the repository; without those not verified."""
    path = corpus / "metadata.csv"
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        name, bar, text = line.partition("|")
        if not bar:
            raise UserError(f"{path}:{number}: '{line[:40]}': expected ID|TEXT; copy the corpus again")
        audio = corpus / "verified" / f"{name}.flac"
        if audio.is_file():
            found.append(Utterance(name, audio, normalised(text)))
    return found


def lines(utterances: list[Utterance]) -> Iterator[tuple[str, np.ndarray, dict[str, str]]]:
    """Id, samples and lines of each utterance."""
    for utterance in utterances:
        samples = (read_audio(utterance.audio, RATE)[0] * 32767.0).round().clamp(-32768, 32767).numpy().astype(np.int16)
        yield utterance.name, samples, {"text": utterance.text, "utt2spk": "kerstin"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data-root", default=os.environ.get("S2S_DATA"), help="folder with a copy (default: $S2S_DATA)"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for train/, dev/ and test/")
    parser.add_argument("--downloads", type=Path, default=Path("downloads"), help="where a download is kept")
    options = parser.parse_args()

    utterances = read_corpus(find_corpus(options.data_root, options.downloads))
    expected = dict(line.split("\t") for line in CHECKSUMS.read_text(encoding="utf-8").splitlines())
    other = []
    for part in ("train", "dev", "test"):
        own = [utterance for utterance in utterances if part_of(utterance.text) == part]
        write_kaldi(options.out / part, lines(own), RATE)
        words = sum(len(utterance.text.split()) for utterance in own)
        print(f"{options.out / part}: {len(own)} utterances, {words} words")
        listed = "".join(f"{utterance.name} {utterance.text}\n" for utterance in own)
        if hashlib.sha256(listed.encode()).hexdigest() != expected.get(part):
            other.append(part)
    if other:
        print(f"not the utterances that RESULTS.md was measured on: {', '.join(other)}")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
