"""Text as older papers score it: punctuation normalised, tokenised and lower-cased as the scripts of Moses do."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="UTF-8 text, a sentence a line")
    parser.add_argument("--language", required=True, help="its code, such as de")
    options = parser.parse_args()
    try:
        from sacremoses import MosesPunctNormalizer, MosesTokenizer
    except ImportError:
        sys.exit("error: needs the package sacremoses: pip install 's2s[moses]'")
    normaliser, tokenizer = MosesPunctNormalizer(lang=options.language), MosesTokenizer(lang=options.language)
    for line in options.file.read_text(encoding="utf-8").removesuffix("\n").split("\n"):
        print(tokenizer.tokenize(normaliser.normalize(line).lower(), return_str=True, escape=False))


if __name__ == "__main__":
    main()
