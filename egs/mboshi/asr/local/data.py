"""Stage 0: the Mboshi-French parallel corpus (Godard et al. 2018, arXiv:1710.03501) as Kaldi data directories.

Mboshi (Bantu C25) read and spoken by three speakers, in the linguists' spelling; 4,616 utterances to train on and an
official dev set of 514, which is the test here. A copy may hold a part of that (the checksums are of one with 257), so
the number of utterances belongs to every result. The corpus has nothing else to validate on: every speaker gives a
twentieth of his training utterances. Distinct sentences are drawn with a fixed seed, each with all its recordings, so
that no sentence is in two parts; a training utterance whose sentence is in the test would be left out (there is none).

Texts: Unicode NFC and single spaces, nothing else; the spelling marks tones with accents, and has neither capitals nor
punctuation. The French translations (`text.fr`) have their `&apos;` unescaped as well.

The recordings are for research and are not ours to pass on: they come from a copy of yours or from their official
place. They are written anew as FLAC, which is read ten times as fast as Opus, and has a header that can be trusted.
"""

from __future__ import annotations

import argparse
import hashlib
import html
import os
import random
import struct
import sys
import unicodedata
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from s2s.data.corpora import fetch_archive, read_recording, read_table, write_kaldi
from s2s.errors import UserError

URL = "https://github.com/besacier/mboshi-french-parallel-corpus/archive/refs/heads/master.tar.gz"
CHECKSUMS = Path(__file__).with_name("checksums.tsv")
OFFICIAL = "full_corpus_newsplit"  # its folder of recordings and texts
COLUMNS = ("id", "path", "speaker", "mboshi", "french")
RATE = 16000
HELD_OUT = 0.05  # of each speaker's training utterances


@dataclass(frozen=True)
class Utterance:
    """A recording, who speaks, what is said, and that in French."""

    name: str
    audio: Path
    speaker: str
    mboshi: str
    french: str


def normalised(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())


def find_corpus(data_root: str | None, downloads: Path) -> Path:
    """The folder of the corpus: a local copy if there is one, else downloaded."""
    if data_root:
        root = Path(data_root)
        for folder in (root / "mboshi-french", root / "mboshi-french-parallel-corpus", root):
            if (folder / "train.tsv").is_file() or (folder / OFFICIAL / "train").is_dir():
                return folder
        raise UserError(
            f"{root}: holds no copy of the corpus; expected {OFFICIAL}/train and /dev as in its repository, or "
            f"train.tsv and dev.tsv with the columns {', '.join(COLUMNS)}, in mboshi-french/, "
            "mboshi-french-parallel-corpus/ or the folder itself (--data-root, S2S_DATA). Leave both unset to "
            "download it"
        )
    if not (downloads / OFFICIAL / "train").is_dir():
        fetch_archive(URL, downloads, place)  # more than a gigabyte
    return downloads


def place(path: Path) -> Path | None:
    """Where a file of the repository's archive belongs: recordings and cleaned texts of both parts."""
    wanted = path.name.endswith((".wav", ".mb.cleaned", ".fr.cleaned"))
    of_a_part = path.parts[-3:-1] in ((OFFICIAL, "train"), (OFFICIAL, "dev"))
    return Path(*path.parts[-3:]) if wanted and of_a_part else None


def read_part(corpus: Path, part: str) -> list[Utterance]:
    """The utterances of an official part with words, sorted; those without are counted aloud."""
    table = corpus / f"{part}.tsv"
    found = read_metadata(table) if table.is_file() else read_folder(corpus / OFFICIAL / part)
    for utterance in found:
        if not utterance.audio.is_file():
            raise UserError(f"{utterance.audio}: no such file; the copy of the corpus is incomplete")
    kept = [utterance for utterance in found if utterance.mboshi]
    if len(kept) < len(found):
        empty = [utterance.name for utterance in found if not utterance.mboshi]
        print(f"{corpus}, {part}: {len(empty)} of {len(found)} left out, no words: {', '.join(empty[:5])}")
    if not kept:
        raise UserError(f"{corpus}: no utterances in its part {part}; copy or download the corpus again")
    return sorted(kept, key=lambda utterance: utterance.name)


def read_metadata(path: Path) -> list[Utterance]:
    """A table of utterances; paths of recordings are relative to its folder."""
    found = []
    for row in read_table(path, COLUMNS):
        texts = normalised(row["mboshi"]), normalised(html.unescape(row["french"]))
        found.append(Utterance(row["id"], path.parent / row["path"], row["speaker"], *texts))
    return found


def read_folder(folder: Path) -> list[Utterance]:
    """NAME.wav, NAME.mb.cleaned and NAME.fr.cleaned, where NAME begins with the speaker, as in the repository."""
    found = []
    for audio in sorted(folder.glob("*.wav")):
        texts = []
        for language in ("mb", "fr"):
            path = audio.with_name(f"{audio.stem}.{language}.cleaned")
            if not path.is_file():
                raise UserError(f"{path}: no such file; the copy of the corpus is incomplete")
            texts.append(normalised(html.unescape(path.read_text(encoding="utf-8"))))
        found.append(Utterance(audio.stem, audio, audio.stem.split("_")[0], texts[0], texts[1]))
    return found


def hold_out(utterances: list[Utterance]) -> tuple[list[Utterance], list[Utterance]]:
    """Training utterances -> those that stay, and those to validate on; no sentence is in both.

    Only `random()` is drawn from, whose sequence Python guarantees.
    """
    chance = random.Random("mboshi dev")
    recordings: dict[str, list[Utterance]] = defaultdict(list)
    for utterance in utterances:
        recordings[utterance.mboshi].append(utterance)
    wanted = Counter(utterance.speaker for utterance in utterances)
    left = Counter({speaker: max(1, round(HELD_OUT * count)) for speaker, count in wanted.items()})
    held = set()
    for _, sentence in sorted((chance.random(), sentence) for sentence in sorted(recordings)):
        speakers = Counter(utterance.speaker for utterance in recordings[sentence])
        if speakers <= left:
            left -= speakers
            held.add(sentence)
    stay = [utterance for utterance in utterances if utterance.mboshi not in held]
    return stay, [utterance for utterance in utterances if utterance.mboshi in held]


def read_samples(path: Path) -> np.ndarray:
    """The samples of a recording as 16-bit numbers."""
    if path.suffix == ".wav":
        return wav_samples(path)
    return read_recording(path, RATE)


def wav_samples(path: Path) -> np.ndarray:
    """The samples of a 16-bit WAV file, to its end where its header gives a wrong length, as some of the corpus do."""
    content = path.read_bytes()
    head, at = content.find(b"fmt "), content.find(b"data")
    if content[:4] != b"RIFF" or head < 0 or at < 0:
        raise UserError(f"{path}: not a WAV file; copy or download the corpus again")
    channels, rate, bits = struct.unpack_from("<2xHI6xH", content, head + 8)
    if (channels, rate, bits) != (1, RATE, 16):
        raise UserError(f"{path}: expected one channel, 16 bits at {RATE} Hz, got {channels}, {bits} bits at {rate} Hz")
    start = at + 8
    end = start + struct.unpack_from("<I", content, at + 4)[0]
    if content[end : end + 4] not in (b"LIST", b"id3 ", b"bext"):  # what may follow the samples
        end = len(content)
    return np.frombuffer(content[start : end - (end - start) % 2], dtype="<i2")


def write_part(folder: Path, utterances: list[Utterance]) -> None:
    """A Kaldi data directory with the translations in it."""
    write_kaldi(
        folder,
        (
            (u.name, read_samples(u.audio), {"text": u.mboshi, "text.fr": u.french, "utt2spk": u.speaker})
            for u in utterances
        ),
        RATE,
    )


def checksum(utterances: list[Utterance]) -> str:
    """Of names and texts."""
    lines = "".join(f"{utterance.name} {utterance.mboshi}\n" for utterance in utterances)
    return hashlib.sha256(lines.encode()).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data-root", default=os.environ.get("S2S_DATA"), help="folder with a copy (default: $S2S_DATA)"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for train/, dev/ and test/")
    parser.add_argument("--downloads", type=Path, default=Path("downloads"), help="where a download is kept")
    options = parser.parse_args()

    corpus = find_corpus(options.data_root, options.downloads)
    test, given = read_part(corpus, "dev"), read_part(corpus, "train")
    tested = {utterance.mboshi for utterance in test}
    unheard = [utterance for utterance in given if utterance.mboshi not in tested]
    print(f"sentences of the test in the training part: {len(given) - len(unheard)} utterances, left out")
    train, dev = hold_out(unheard)
    expected = dict(line.split("\t") for line in CHECKSUMS.read_text(encoding="utf-8").splitlines())
    other = []
    for part, utterances in (("train", train), ("dev", dev), ("test", test)):
        write_part(options.out / part, utterances)
        speakers = ", ".join(f"{name} {count}" for name, count in Counter(u.speaker for u in utterances).most_common())
        sentences = len({utterance.mboshi for utterance in utterances})
        print(f"{options.out / part}: {len(utterances)} utterances, {sentences} distinct sentences ({speakers})")
        if checksum(utterances) != expected[part]:
            other.append(part)
    if other:
        print(f"not the utterances that RESULTS.md was measured on: {', '.join(other)}")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
