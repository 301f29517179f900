"""Stage 0: small_parallel_enja (https://github.com/odashi/small_parallel_enja) as parallel text.

Short sentences of the Tanaka corpus in English and Japanese, 50,000 to train on, 500 to validate and 500 to test, as
its repository has them: tokenised, English in lower case.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from s2s.data.corpora import find_file, read_text, write_parallel
from s2s.errors import UserError

URL = "https://raw.githubusercontent.com/odashi/small_parallel_enja/master"
PARTS, LANGUAGES = ("train", "dev", "test"), ("en", "ja")


def find(part: str, language: str, data_root: str | None, downloads: Path) -> Path:
    """The file of a part in a language; a local copy may have it packed."""
    name = f"{part}.{language}"
    try:
        return find_file(
            f"{name}.gz" if data_root else name, data_root, ("small_parallel_enja",), f"{URL}/{name}", downloads
        )
    except UserError:
        if not data_root:
            raise
        return find_file(name, data_root, ("small_parallel_enja",), f"{URL}/{name}", downloads)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data-root", default=os.environ.get("S2S_DATA"), help="folder with a copy (default: $S2S_DATA)"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for train/, dev/ and test/")
    parser.add_argument("--downloads", type=Path, default=Path("downloads"), help="where a download is kept")
    options = parser.parse_args()
    for part in PARTS:
        texts = {code: read_text(find(part, code, options.data_root, options.downloads)) for code in LANGUAGES}
        if len(texts["en"]) != len(texts["ja"]):
            raise UserError(f"{part}: {len(texts['en'])} lines in en, {len(texts['ja'])} in ja; copy the corpus again")
        write_parallel(options.out / part, texts)
        print(f"{options.out / part}: {len(texts['en'])} sentences in {' and '.join(LANGUAGES)}")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
