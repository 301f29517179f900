"""Stage 0: Asterisk's core sounds, prompts of a telephone exchange in five languages, as Kaldi data directories.

One voice reads each language; a prompt has the same name in all of them. `train` and `dev` hold all languages,
`test-en` and so on one each; `text` is what is said, `text.fr` what the French voice says for the same prompt, if it
does.

A hash of the prompt decides in which part all its recordings are: 12 in 100 the test, 6 to validate on. Prompts
worded alike in one of the languages count as one, so that no part has what another has. Recordings without text, and
those that are longer than 30 s, are left out and counted; some texts have faults of their own (a ? for an accent, a
word that is not the one said), and stay as they are.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile

from s2s.data.corpora import fetch_archive, read_recording, read_table, write_kaldi
from s2s.errors import UserError
from s2s.tokenizers.prompts import plain

LANGUAGES = ("en", "es", "fr", "it", "ru")
URL = "https://downloads.asterisk.org/pub/telephony/sounds/releases/asterisk-core-sounds-{}-sln16-1.6.1.tar.gz"
CHECKSUMS = Path(__file__).with_name("checksums.tsv")
COLUMNS = ("lang", "id", "path", "text")
RATE, LONGEST = 16000, 30.0
TEST, DEV = 12, 6  # of 100 prompts


@dataclass(frozen=True)
class Recording:
    """A prompt in a language."""

    prompt: str
    language: str
    audio: Path
    text: str

    @property
    def name(self) -> str:
        return f"{self.language}-{self.prompt.replace('/', '-')}"


def normalised(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())


def find_corpus(data_root: str | None, downloads: Path) -> Path:
    """The folder of the corpus: a local copy if there is one, else downloaded."""
    if data_root:
        root = Path(data_root)
        for folder in (root / "asterisk-core-sounds-5lang", root / "asterisk-core-sounds", root):
            if (folder / "metadata.tsv").is_file() or (folder / "en" / "core-sounds-en.txt").is_file():
                return folder
        raise UserError(
            f"{root}: holds no copy of the corpus; expected metadata.tsv with the columns {', '.join(COLUMNS)}, or the "
            "archives asterisk-core-sounds-en-sln16, ... unpacked into en/, ..., in asterisk-core-sounds-5lang/, "
            "asterisk-core-sounds/ or the folder itself (--data-root, S2S_DATA). Leave both unset to download it"
        )
    for language in LANGUAGES:
        if not (downloads / language).is_dir():
            fetch_archive(URL.format(language), downloads / language, place)
    return downloads


def place(path: Path) -> Path | None:
    """Where a file of an archive belongs: recordings (raw 16-bit samples) and the list of what is said."""
    return path if path.suffix == ".sln16" or path.name.startswith("core-sounds-") else None


def read_recordings(corpus: Path) -> list[Recording]:
    """All of them, sorted; UserError for what is not there."""
    table = corpus / "metadata.tsv"
    found = read_metadata(table) if table.is_file() else [r for code in LANGUAGES for r in read_folder(corpus, code)]
    for recording in found:
        if not recording.audio.is_file():
            raise UserError(f"{recording.audio}: no such file; the copy of the corpus is incomplete")
    return sorted(found, key=lambda recording: recording.name)


def read_metadata(path: Path) -> list[Recording]:
    """A table of recordings; their paths are relative to its folder."""
    return [
        Recording(row["id"], row["lang"], path.parent / row["path"], normalised(row["text"]))
        for row in read_table(path, COLUMNS)
    ]


def read_folder(corpus: Path, language: str) -> list[Recording]:
    """An archive as it comes: `core-sounds-en.txt` with lines `name: text`, and name.sln16."""
    listed = corpus / language / f"core-sounds-{language}.txt"
    try:
        content = listed.read_bytes()
    except OSError as error:
        raise UserError(f"{listed}: cannot be read ({error.strerror}); the copy of the corpus is incomplete") from error
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        lines = content.decode("latin-1").splitlines()
    found = []
    for line in lines:
        prompt, colon, text = line.partition(":")
        audio = corpus / language / f"{prompt.strip()}.sln16"
        if colon and not line.startswith(";") and audio.is_file():  # some are listed and not recorded
            found.append(Recording(prompt.strip(), language, audio, normalised(text)))
    return found


def read_samples(path: Path) -> np.ndarray:
    """The samples of a recording as 16-bit numbers, at 16 kHz."""
    if path.suffix == ".sln16":
        return np.frombuffer(path.read_bytes()[: path.stat().st_size // 2 * 2], dtype="<i2")
    return read_recording(path, RATE)


def seconds(path: Path) -> float:
    """How long a recording lasts."""
    frames = path.stat().st_size // 2 if path.suffix == ".sln16" else soundfile.info(path).frames
    return float(frames / RATE)


def families(recordings: Iterable[Recording]) -> dict[str, str]:
    """Of every prompt, the first of those that it shares a wording with, in any language, directly or by others."""
    parent: dict[str, str] = {}

    def first(prompt: str) -> str:
        while parent.setdefault(prompt, prompt) != prompt:
            prompt = parent[prompt]
        return prompt

    worded: dict[tuple[str, str], str] = {}
    for recording in sorted(recordings, key=lambda r: r.prompt):
        words = "".join(c for c in recording.text.lower() if c.isalnum())
        one, other = sorted(
            (first(recording.prompt), first(worded.setdefault((recording.language, words), recording.prompt)))
        )
        parent[other] = one
    return {prompt: first(prompt) for prompt in parent}


def part_of(family: str) -> str:
    number = int.from_bytes(hashlib.sha256(family.encode()).digest()[:8], "big") % 100
    return "test" if number < TEST else "dev" if number < TEST + DEV else "train"


def divide(recordings: Iterable[Recording]) -> dict[str, list[Recording]]:
    """The recordings of each part; those of the test by languages."""
    recordings = list(recordings)
    family = families(recordings)
    parts: dict[str, list[Recording]] = defaultdict(list)
    for recording in recordings:
        part = part_of(family[recording.prompt])
        parts[f"test-{recording.language}" if part == "test" else part].append(recording)
    return dict(sorted(parts.items()))


def write_part(folder: Path, recordings: list[Recording], said: dict[str, dict[str, str]]) -> None:
    """A Kaldi data directory; `said` is what each language says for each prompt."""
    write_kaldi(
        folder,
        (
            (
                r.name,
                read_samples(r.audio),
                {"text": r.text, "utt2spk": r.language, "utt2lang": r.language}
                | {f"text.{code}": text for code, text in said[r.prompt].items() if code != r.language},
            )
            for r in recordings
        ),
        RATE,
    )


def checksum(recordings: list[Recording]) -> str:
    """Of names and texts."""
    return hashlib.sha256("".join(f"{r.name} {r.text}\n" for r in recordings).encode()).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data-root", default=os.environ.get("S2S_DATA"), help="folder with a copy (default: $S2S_DATA)"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for train/, dev/, test-en/, ...")
    parser.add_argument("--languages", nargs="+", default=LANGUAGES, choices=LANGUAGES, help="(default: all)")
    parser.add_argument("--plain", action="store_true", help="lower case, no punctuation")
    parser.add_argument("--downloads", type=Path, default=Path("downloads"), help="where a download is kept")
    options = parser.parse_args()

    corpus = find_corpus(options.data_root, options.downloads)
    everything = [r for r in read_recordings(corpus) if r.language in options.languages]
    if options.plain:
        everything = [replace(r, text=plain(r.text)) for r in everything]
    with_text = [r for r in everything if r.text]
    kept = [r for r in with_text if seconds(r.audio) <= LONGEST]
    print(
        f"{corpus}: {len(everything)} recordings; left out: {len(everything) - len(with_text)} without text, "
        f"{len(with_text) - len(kept)} longer than {LONGEST:g} s"
    )
    said: dict[str, dict[str, str]] = defaultdict(dict)
    for recording in kept:
        said[recording.prompt][recording.language] = recording.text
    expected = dict(line.split("\t") for line in CHECKSUMS.read_text(encoding="utf-8").splitlines())
    other = []
    for part, recordings in divide(kept).items():
        write_part(options.out / part, recordings, said)
        counts = ", ".join(f"{code} {n}" for code, n in sorted(Counter(r.language for r in recordings).items()))
        prompts = len({r.prompt for r in recordings})
        print(f"{options.out / part}: {len(recordings)} recordings of {prompts} prompts ({counts})")
        if checksum(recordings) != expected.get(part):
            other.append(part)
    if other:
        print(f"not the recordings that RESULTS.md was measured on: {', '.join(other)}")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
