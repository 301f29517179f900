"""Stage 0: Multi30k (Elliott et al. 2016, arXiv:1605.00459) as parallel text, raw: cased, as it was written.

Captions of photographs in English, translated into German, French and Czech: 29,000 to train on, 1,014 to validate, and
the test set of 2016 (1,000). White space is made single; nothing else is changed.

The captions are not ours to pass on: they come from a copy of yours or from their official place.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from pathlib import Path

from s2s.data.corpora import find_file, read_text, write_parallel
from s2s.errors import UserError

URL = "https://raw.githubusercontent.com/multi30k/dataset/master/data/task1/raw"
PARTS = {"train": "train", "dev": "val", "test_2016_flickr": "test_2016_flickr"}
LANGUAGES = ("en", "de", "fr", "cs")
CHECKSUMS = Path(__file__).with_name("checksums.tsv")


def find(name: str, data_root: str | None, downloads: Path) -> Path:
    return find_file(name, data_root, ("multi30k", "data/task1/raw"), f"{URL}/{name}", downloads)


def checksum(texts: dict[str, list[str]]) -> str:
    lines = (f"{language} {line}\n" for language in LANGUAGES for line in texts[language])
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data-root", default=os.environ.get("S2S_DATA"), help="folder with a copy (default: $S2S_DATA)"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for train/, dev/ and test_2016_flickr/")
    parser.add_argument("--downloads", type=Path, default=Path("downloads"), help="where a download is kept")
    options = parser.parse_args()

    expected = dict(line.split("\t") for line in CHECKSUMS.read_text(encoding="utf-8").splitlines())
    for part, name in PARTS.items():
        texts = {
            language: read_text(find(f"{name}.{language}.gz", options.data_root, options.downloads))
            for language in LANGUAGES
        }
        if len({len(lines) for lines in texts.values()}) > 1:
            sizes = ", ".join(f"{language} {len(lines)}" for language, lines in texts.items())
            raise UserError(f"{name}: the languages have different numbers of lines ({sizes}); copy the corpus again")
        write_parallel(options.out / part, texts)
        known = "" if checksum(texts) == expected[part] else "; not the text that RESULTS.md was measured on"
        print(f"{options.out / part}: {len(texts['en'])} captions in {', '.join(LANGUAGES)}{known}")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
