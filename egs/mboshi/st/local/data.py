"""Stage 0: the data directories of ../asr, whose `text.fr` are the French translations, with the language spoken."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

ASR = Path(__file__).resolve().parents[2] / "asr" / "local" / "data.py"
PARTS = ("train", "dev", "test")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data-root", default=os.environ.get("S2S_DATA"), help="folder with a copy (default: $S2S_DATA)"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for train/, dev/ and test/")
    options = parser.parse_args()
    root = ["--data-root", options.data_root] if options.data_root else []
    done = subprocess.run([sys.executable, str(ASR), *root, "--out", str(options.out)], check=False)
    if done.returncode:
        sys.exit(done.returncode)
    for part in PARTS:
        names = [line.split()[0] for line in (options.out / part / "wav.scp").read_text(encoding="utf-8").splitlines()]
        (options.out / part / "utt2lang").write_text("".join(f"{name} mb\n" for name in names), encoding="utf-8")


if __name__ == "__main__":
    main()
