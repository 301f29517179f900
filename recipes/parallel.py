"""The texts of a data directory as parallel text: what is said, and its translations.

parallel.py DATA --out DIR en-fr en-en ...

DIR gets `text.LANGUAGE` for each language of the directions; line n of all of them says the same, and is empty where
nobody has written it. What is said alike in all languages is there once.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from s2s.data.corpora import write_parallel
from s2s.data.parallel import Direction
from s2s.errors import UserError
from s2s.scoring.transcripts import read_transcripts


def rows(folder: Path, directions: list[Direction]) -> list[dict[str, str]]:
    """What is said in each language, of every utterance, each once."""
    codes = sorted({code for each in directions for code in (each.source, each.target)})
    sources = {each.source for each in directions}
    words = read_transcripts(folder / "text")
    spoken = read_transcripts(folder / "utt2lang") if (folder / "utt2lang").is_file() else {}
    others = {c: read_transcripts(folder / f"text.{c}") for c in codes if (folder / f"text.{c}").is_file()}
    found: dict[tuple[str, ...], None] = {}
    for name, text in words.items():
        said = {code: texts[name] for code, texts in others.items() if name in texts}
        said[spoken[name] if spoken else next(iter(sources))] = text
        found.setdefault(tuple(said.get(code, "") for code in codes))
    return [dict(zip(codes, row, strict=True)) for row in found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("pairs", nargs="+", metavar="PAIR")
    options = parser.parse_args()
    found = rows(options.data, [Direction.of(pair) for pair in options.pairs])
    write_parallel(options.out, {code: [row[code] for row in found] for code in found[0]} if found else {})
    print(f"{options.out}: {len(found)} sentences")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
