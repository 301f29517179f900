"""Stage 0: the CMU Pronouncing Dictionary (https://github.com/cmusphinx/cmudict, BSD) as parallel text.

Words a letter at a time, and their phonemes, stress left out: 39 of them. A hash of the word decides whether it is to
train on (92.5 %), to validate (2.5 %) or to test (5 %), with all its pronunciations. All of them are trained on;
validation and test have the first one of each word. Entries with other signs than letters and the apostrophe are left
out, and counted.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import sys
from collections import defaultdict
from pathlib import Path

from s2s.data.corpora import find_file, read_text, write_parallel
from s2s.errors import UserError

URL = "https://raw.githubusercontent.com/cmusphinx/cmudict/master"
NAME = "cmudict.dict"
SHARES = {"test": 50, "dev": 75, "train": 1000}  # of a thousand, up to
_WORD = re.compile(r"[a-z']+")
_ENTRY = re.compile(r"(\S+?)(?:\(\d+\))? ([A-Z0-2 ]+?)(?: #.*)?")


def read_entries(path: Path, stress: bool) -> tuple[dict[str, list[str]], int]:
    """The pronunciations of each word, and how many entries have other signs than letters; UserError names a line."""
    found: dict[str, list[str]] = defaultdict(list)
    others = 0
    for number, line in enumerate(read_text(path), start=1):
        entry = _ENTRY.fullmatch(line)
        if entry is None:
            raise UserError(f"{path}:{number}: '{line}', expected a word and its phonemes")
        word, phonemes = entry.groups()
        if not _WORD.fullmatch(word):
            others += 1
            continue
        spoken = phonemes if stress else re.sub(r"[0-2]", "", phonemes)
        if spoken not in found[word]:
            found[word].append(spoken)
    return found, others


def part_of(word: str) -> str:
    place = int(hashlib.sha256(word.encode()).hexdigest(), 16) % 1000
    return next(part for part, end in SHARES.items() if place < end)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data-root", default=os.environ.get("S2S_DATA"), help="folder with a copy (default: $S2S_DATA)"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for train/, dev/ and test/")
    parser.add_argument("--downloads", type=Path, default=Path("downloads"), help="where a download is kept")
    parser.add_argument("--stress", action="store_true", help="keep the stress of vowels (AH0, AH1, AH2)")
    options = parser.parse_args()
    name = f"{NAME}.gz" if options.data_root and not (Path(options.data_root) / NAME).is_file() else NAME
    path = find_file(name, options.data_root, ("cmudict",), f"{URL}/{NAME}", options.downloads)
    entries, others = read_entries(path, options.stress)
    print(f"{path}: {len(entries)} words, {others} entries left out for other signs than letters")
    parts: dict[str, list[tuple[str, str]]] = {part: [] for part in SHARES}
    for word, spoken in sorted(entries.items()):
        part = part_of(word)
        parts[part] += [(" ".join(word), each) for each in (spoken if part == "train" else spoken[:1])]
    for part, pairs in parts.items():
        write_parallel(options.out / part, {"letters": [a for a, _ in pairs], "phonemes": [b for _, b in pairs]})
        print(f"{options.out / part}: {len(pairs)} pronunciations")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
