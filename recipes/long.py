"""Decode the utterances of a test set joined into ones that are several times as long, in several ways.

A system is a trained model and a way to decode with it, NAME=BUNDLE:DECODING or, with overrides,
NAME=BUNDLE:DECODING,decoding.KEY=VALUE,...; several stand in one argument, with spaces between:

    --systems "global=exp/official/bundle:joint narrow=exp/official/bundle:joint,decoding.beam_size=2"

For each N of --times, N utterances of a speaker that follow one another are joined, with nothing between them, and
decoded by each system in a process of its own, whose time and memory are measured. What is done is skipped, so the same
command goes on after a stop. Written at the end, of all that is finished: OUT/results.json, OUT/table.md, OUT/plot.png.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablate import Failed, measured

from s2s.conf import HERE
from s2s.errors import UserError, nearest
from s2s.files import replacing

RECORD = "long.json"  # beside each decoding: what it was told, and what it took
JOIN = Path(__file__).with_name("join.py")


@dataclass(frozen=True)
class System:
    """A model, and how it is decoded with."""

    name: str
    bundle: Path
    decoding: str
    overrides: tuple[str, ...]


def read_system(word: str) -> System:
    """The system that a word of --systems describes; UserError for what is not as the module says."""
    found = re.fullmatch(r"([^=:,]+)=([^:,]+):([^:,]+)((?:,[^,]+)*)", word)
    if found is None:
        raise UserError(f"--systems: '{word}': expected NAME=BUNDLE:DECODING[,decoding.KEY=VALUE...]")
    name, bundle, decoding, rest = found.groups()
    overrides = tuple(rest.split(",")[1:])
    if not re.fullmatch(r"[\w.+-]+", name) or name.startswith(".") or name == "data":
        raise UserError(f"--systems: '{name}': expected a name of letters, digits and -, _, + or ., and not data")
    if not (Path(bundle) / "model.safetensors").is_file():
        raise UserError(f"--systems: {name}: {bundle}: not a bundle; expected a folder that `s2s bundle` wrote")
    known = sorted(path.stem for path in HERE.glob("decoding/*.yaml"))
    if decoding not in known:
        raise UserError(
            f"--systems: {name}: '{decoding}': expected one of {', '.join(known)}.{nearest(decoding, known)}"
        )
    if wrong := [each for each in overrides if not re.fullmatch(r"decoding\.\w+=.*", each)]:
        raise UserError(f"--systems: {name}: '{wrong[0]}': expected decoding.KEY=VALUE")
    return System(name, Path(bundle), decoding, overrides)


def read_systems(words: list[str]) -> list[System]:
    """All systems, in their order; UserError where two have one name."""
    systems = [read_system(word) for word in words]
    names = [system.name for system in systems]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"--systems: '{twice[0]}' is there twice; give every system a name of its own")
    return systems


def step(folder: Path, told: dict[str, Any], command: list[str]) -> None:
    """Run a measured command that makes `folder`, unless it was made before and told the same."""
    record = folder / RECORD
    if record.is_file() and json.loads(record.read_text(encoding="utf-8"))["told"] == told:
        return
    print(folder, flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    taken = measured(command, folder.with_name(f"{folder.name}.log"))
    with replacing(record) as beside:
        content = {"told": told, "command": shlex.join(command), **taken}
        beside.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def join(options: argparse.Namespace, times: int) -> Path:
    """The data directory of utterances joined by so many."""
    folder: Path = options.exp / "data" / str(times)
    told = {"data": str(options.data), "of": digest(*sorted(path for path in source_files(options.data)))}
    step(folder, told, [sys.executable, str(JOIN), str(options.data), str(folder), str(times)])
    return folder


def source_files(data: Path) -> list[Path]:
    """The files that say what is in a data set."""
    return [path for path in data.iterdir() if path.is_file()] if data.is_dir() else [data]


def digest(*paths: Path) -> str:
    """What tells the contents of files from others."""
    found = hashlib.sha256()
    for path in paths:
        found.update(path.read_bytes())
    return found.hexdigest()[:16]


def decode(options: argparse.Namespace, system: System, times: int, data: Path) -> None:
    """The decoding of one system at one length."""
    overrides = [*options.overrides, *system.overrides]
    told = {
        "data": json.loads((data / RECORD).read_text(encoding="utf-8"))["told"],
        "bundle": str(system.bundle),
        "weights": digest(system.bundle / "model.safetensors", system.bundle / "config.yaml"),
        "decoding": system.decoding,
        "overrides": overrides,
    }
    out = options.exp / system.name / str(times)
    command = ["s2s", "decode", "--model", str(system.bundle), "--data", str(data), "--out", str(out)]
    step(out, told, [*command, "--num-workers", "0", f"decoding={system.decoding}", *overrides])


def numbers(text: str) -> list[int]:
    found = [int(word) for word in text.split()]
    if not found or min(found) < 1:
        raise ValueError
    return sorted(set(found))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="long.sh", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("overrides", nargs="*", metavar="decoding.KEY=VALUE", help="overrides of every system")
    parser.add_argument(
        "--systems",
        type=str.split,
        default=["joint=exp/official/bundle:joint", "ctc=exp/official/bundle:ctc_greedy"],
        metavar="'A B'",
        help="(default: joint=exp/official/bundle:joint ctc=exp/official/bundle:ctc_greedy)",
    )
    parser.add_argument(
        "--times", type=numbers, default=[1, 2, 4, 6, 8, 10], metavar="'1 2'", help="(default: 1 2 4 6 8 10)"
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=Path("data/official/test"),
        metavar="DATA",
        help="Kaldi data directory or Lhotse cuts (default: %(default)s)",
    )
    parser.add_argument("--exp", type=Path, default=Path("exp/long"), metavar="DIR", help="(default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("long"), metavar="DIR", help="(default: %(default)s)")
    options = parser.parse_intermixed_args()
    if wrong := [word for word in options.overrides if not re.fullmatch(r"decoding\.\w+=.*", word)]:
        parser.error(f"'{wrong[0]}' is neither an option nor decoding.KEY=VALUE")
    if not options.systems:
        parser.error("--systems: expected at least one NAME=BUNDLE:DECODING")
    return options


def main() -> int:
    options = parse()
    systems = read_systems(options.systems)
    if not options.data.exists():
        raise UserError(f"--data {options.data}: no such data set; ./run.sh --stop-stage 0 makes the digits")
    if shutil.which("s2s") is None:
        raise UserError("no command s2s; activate the environment (. .venv/bin/activate)")
    failures = []
    try:
        for times in options.times:
            data = join(options, times)
            for system in systems:
                try:
                    decode(options, system, times, data)
                except Failed as error:
                    failures.append(f"{system.name}, {times} times: {error}")
                    print(f"failed: {failures[-1]}", flush=True)
    except Failed as error:
        raise UserError(str(error)) from error
    except KeyboardInterrupt:
        print("stopped; run the same command again to go on", file=sys.stderr)
        return 130

    from long_report import write_report  # with torch and matplotlib, whose memory the decodings would begin with

    write_report(systems, options.times, options.exp, options.out)
    for failure in failures:
        print(f"failed: {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"error: {error}")
