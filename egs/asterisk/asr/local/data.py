"""Stage 0: the English prompts of ../st in lower case, without punctuation, and data/lexicon.txt with pronunciations.

These are those of the CMU Pronouncing Dictionary (https://github.com/cmusphinx/cmudict, BSD), without stress.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

from s2s.data.corpora import find_file, read_text
from s2s.errors import UserError
from s2s.files import replacing

ST = Path(__file__).resolve().parents[2] / "st" / "local" / "data.py"
URL = "https://raw.githubusercontent.com/cmusphinx/cmudict/master/cmudict.dict"
LEXICON = Path("data/lexicon.txt")


def write_lexicon(data_root: str | None, downloads: Path) -> None:
    """The dictionary without stress and notes."""
    packed = data_root and any((Path(data_root) / place / "cmudict.dict.gz").is_file() for place in ("cmudict", "."))
    found = find_file("cmudict.dict.gz" if packed else "cmudict.dict", data_root, ("cmudict",), URL, downloads)
    lines = (line.split(" #")[0].strip() for line in read_text(found))
    with replacing(LEXICON) as beside:
        beside.write_text("".join(re.sub(r"(?<=[A-Z])[0-2]\b", "", line) + "\n" for line in lines if line))
    print(f"{LEXICON}: pronunciations of {found}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data-root", default=os.environ.get("S2S_DATA"), help="folder with a copy (default: $S2S_DATA)"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for train/, dev/ and test-en/")
    options = parser.parse_args()
    root = ["--data-root", options.data_root] if options.data_root else []
    command = [sys.executable, str(ST), *root, "--out", str(options.out), "--languages", "en", "--plain"]
    done = subprocess.run(command, check=False)
    if done.returncode:
        sys.exit(done.returncode)
    write_lexicon(options.data_root, Path("downloads"))


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
