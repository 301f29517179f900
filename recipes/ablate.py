"""Train and decode every line of a table of kinds with the same budget and seeds, then write what they cost and reach.

A line of the table is a name and Hydra overrides of the training; behind each `|` stand the name of a further decoding
of the same models, in the first decoding mode, and its overrides:

    softmax
    relaxed  model.encoder.attention.kind=relaxed | lm decoding.ngram=lm.arpa decoding.ngram_weight=0.3

Runs are stages 2 to 5 of the recipe in the current folder, each in EXP/NAME/SEED; what is finished is skipped, so the
same command goes on after a stop. --known has what was finished elsewhere skipped too. Trainings may be on a GPU;
decodings are on the CPU, where speed and memory compare. Written at the end, of all that is finished:
OUT/results.json, OUT/table.md and OUT/plot.png.

Speed and memory mean something only where nothing else runs. So that error rates need not wait for a quiet machine,
--costs measures them apart: a training of one epoch and all decodings of the first seed's model, in EXP/NAME/costs.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s2s.errors import UserError, nearest
from s2s.files import replacing

Row = dict[str, Any]
TABLE = Path(__file__).with_name("ablations.txt")
RECORD = "ablation.json"  # in the folder of a run: what each step was told, and what it took
COSTS = "costs"
MIB = 2**20 if sys.platform == "darwin" else 2**10  # of the units in which the system counts memory


@dataclass(frozen=True)
class Kind:
    """A line of the table: overrides of the training, and further decodings by name."""

    name: str
    overrides: tuple[str, ...]
    decodings: dict[str, tuple[str, ...]]


def read_table(path: Path) -> list[Kind]:
    """The kinds of a table, in order; UserError names a line that is not as the module says."""
    if not path.is_file():
        raise UserError(f"--table {path}: no such file")
    kinds: dict[str, Kind] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        text = line.split("#", 1)[0].strip()
        if not text:
            continue
        try:
            (name, *overrides), *further = (shlex.split(part) for part in text.split("|"))
        except ValueError as error:  # a quote without its twin, nothing before a bar
            raise UserError(f"{path}:{number}: expected NAME KEY=VALUE... [| NAME decoding.KEY=VALUE...]") from error
        kind = Kind(name, tuple(overrides), {part[0]: tuple(part[1:]) for part in further if part})
        for word in (name, *kind.decodings):
            if not re.fullmatch(r"[\w.+-]+", word) or word.startswith("."):
                raise UserError(f"{path}:{number}: '{word}': expected a name of letters, digits and -, _, + or .")
        told = [*overrides, *(override for part in kind.decodings.values() for override in part)]
        if wrong := [override for override in told if "=" not in override and not override.startswith("~")]:
            raise UserError(f"{path}:{number}: '{wrong[0]}': expected an override KEY=VALUE")
        if name in kinds:
            raise UserError(f"{path}:{number}: '{name}' is there twice; give every line a name of its own")
        kinds[name] = kind
    if not kinds:
        raise UserError(f"{path}: no lines; expected NAME KEY=VALUE... on each")
    return list(kinds.values())


def chosen(kinds: list[Kind], only: Sequence[str]) -> list[Kind]:
    """The kinds named, in the table's order; all where none is."""
    names = [kind.name for kind in kinds]
    for name in only:
        if name not in names:
            raise UserError(
                f"--only {name}: no such line in the table.{nearest(name, names)} There are: {', '.join(names)}"
            )
    return [kind for kind in kinds if not only or kind.name in only]


class Failed(Exception):
    """A step of the recipe ended with an error; the message has its last words."""


def measured(command: Sequence[str], log: Path) -> dict[str, Any]:
    """Run a command, its output into `log` -> wall seconds, and the most memory that one of its processes held."""
    log.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with log.open("w", encoding="utf-8") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except KeyboardInterrupt:  # the training got it too, and saves
            process.wait()
            raise
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
        raise Failed(f"{lines[-1] if lines else f'exit status {process.returncode}'} ({log})")
    return {"wall_seconds": round(time.monotonic() - started, 1), "peak_mib": round(usage.ru_maxrss / MIB, 1)}


def step(folder: Path, name: str, told: dict[str, Any], command: Sequence[str]) -> None:
    """A measured step of a run, unless it was done with the same settings `told`."""
    record = read_record(folder)
    if name in record and record[name]["told"] == told:
        return
    if name in record and name == "train":
        raise UserError(
            f"{folder}: was trained with other settings ({record[name]['told']}, now {told}); remove it, or choose "
            "another --exp or another name in the table"
        )
    print(f"{folder}: {name}", flush=True)
    taken = measured(command, folder / f"{name}.log")
    with replacing(folder / RECORD) as beside:
        beside.write_text(
            json.dumps({**record, name: {"told": told, "command": shlex.join(command), **taken}}, indent=2) + "\n",
            encoding="utf-8",
        )


def read_record(folder: Path) -> dict[str, Any]:
    """What the steps of a run took; {} where none is done."""
    path = folder / RECORD
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}); remove {folder} to run it again") from error


def read_known(path: Path | None) -> dict[str, Row]:
    """The rows of a results.json by name; {} of none."""
    if path is None:
        return {}
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
        return {row["name"]: {**row, **{key: row[key] for key in ("seeds", "overrides", "costs")}} for row in rows}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"--known {path}: {error}; expected a results.json that this script has written") from error


def row_name(kind: Kind, decoding: str) -> str:
    """What the table calls a decoding of a kind, "" for the first."""
    return f"{kind.name}, {decoding}" if decoding else kind.name


def is_known(kind: Kind, seed: int, known: dict[str, Row]) -> bool:
    """Whether all decodings of a run are among what is known; UserError where that is of other overrides."""
    rows = {name: known.get(row_name(kind, name)) for name in ("", *kind.decodings)}
    for name, row in rows.items():
        if row is not None and row["overrides"] != [*kind.overrides, *kind.decodings.get(name, ())]:
            raise UserError(
                f"--known: {row['name']} was made with {row['overrides']}, which is not what the table says; give it "
                "another name there, or leave that row out"
            )
    return all(row is not None and str(seed) in row["seeds"] for row in rows.values())


def run(kind: Kind, seed: int, options: argparse.Namespace) -> None:
    """One kind and seed: train and average, then decode and score in every way asked for."""
    folder = options.exp / kind.name / str(seed)
    recipe = shlex.split(options.recipe)
    training = [*kind.overrides, *(override for override in options.overrides if not is_of_decoding(override))]
    where = ["--exp", str(folder), "--ngpu", str(options.ngpu)]
    told: dict[str, Any] = {"recipe": options.recipe, "overrides": training}
    command = [*recipe, "--stage", "2", "--stop-stage", "3", *where, *training, f"training.seed={seed}"]
    step(folder, "train", told, command)
    decode(kind, folder, folder / "averaged", options)


def measure_costs(kind: Kind, options: argparse.Namespace) -> None:
    """What training and decoding of a kind take, by its first seed that is trained; nothing where none is."""
    trained = [path for path in seeds_of(kind, options.exp) if (path / "averaged").exists()]
    if not trained:
        return
    folder = options.exp / kind.name / COSTS
    told = {**read_record(trained[0])["train"]["told"], "epochs": 1}
    command = [*shlex.split(told["recipe"]), "--stage", "2", "--stop-stage", "2", "--exp", str(folder)]
    command += ["--ngpu", str(options.ngpu), *told["overrides"], "training.seed=1", "training.max_epochs=1"]
    step(folder, "train", told, command)
    decode(kind, folder, trained[0] / "averaged", options)


def decode(kind: Kind, folder: Path, model: Path, options: argparse.Namespace) -> None:
    """Decode and score with a trained model in every way asked for."""
    recipe = shlex.split(options.recipe)
    decoding = [override for override in options.overrides if is_of_decoding(override)]
    for name, overrides in {"": (), **kind.decodings}.items():
        decoded = decoded_in(folder, name)
        if not (decoded / "averaged").exists():
            decoded.mkdir(parents=True, exist_ok=True)
            (decoded / "averaged").symlink_to(model.resolve())
        modes = modes_of(name, options.decodings)
        told = {"decodings": modes, "overrides": [*decoding, *overrides]}
        command = [*recipe, "--stage", "4", "--stop-stage", "5", "--force", "--exp", str(decoded)]
        step(decoded, "decode", told, [*command, "--decodings", " ".join(modes), *decoding, *overrides])


def is_of_decoding(override: str) -> bool:
    return override.startswith("decoding.")


def seeds_of(kind: Kind, exp: Path) -> list[Path]:
    """The folders of a kind's runs, by seed."""
    folders = [path for path in (exp / kind.name).glob("*") if path.name.isdigit()]
    return sorted(folders, key=lambda path: int(path.name))


def decoded_in(folder: Path, name: str) -> Path:
    """Where a run's decoding of that name is, "" for the first; the others have a folder of their own."""
    return folder / "further" / name if name else folder


def modes_of(name: str, modes: list[str]) -> list[str]:
    """In which modes a decoding of that name is made: overrides of one would not all be heeded by the others."""
    return modes[:1] if name else modes


def words(text: str) -> list[str]:
    return text.split()


def seeds(text: str) -> list[int]:
    return [int(word) for word in text.split()]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="ablate.sh", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="Hydra overrides of every run")
    parser.add_argument("--only", type=words, default=[], metavar="'A B'", help="lines of the table (default: all)")
    parser.add_argument("--seeds", type=seeds, default=[1, 2, 3], metavar="'1 2 3'", help="(default: 1 2 3)")
    parser.add_argument(
        "--table", type=Path, default=TABLE, metavar="FILE", help=f"(default: {TABLE.name} of recipes/)"
    )
    parser.add_argument(
        "--recipe", default="./run.sh", metavar="COMMAND", help="with its options (default: %(default)s)"
    )
    parser.add_argument("--ngpu", type=int, default=0, metavar="N", help="GPUs to train on; 0 is the CPU")
    parser.add_argument(
        "--decodings",
        type=words,
        default=["joint", "ctc_greedy"],
        metavar="'A B'",
        help="decoding modes (default: joint ctc_greedy)",
    )
    parser.add_argument(
        "--costs", action="store_true", help="measure speed and memory of what is trained, on a quiet machine"
    )
    parser.add_argument(
        "--known", type=Path, metavar="FILE", help="results.json of runs made before, which are not made again"
    )
    parser.add_argument("--exp", type=Path, default=Path("exp/ablate"), metavar="DIR", help="(default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("ablation"), metavar="DIR", help="(default: %(default)s)")
    options = parser.parse_intermixed_args()
    if wrong := [word for word in options.overrides if "=" not in word]:
        parser.error(f"'{wrong[0]}' is neither an option nor KEY=VALUE")
    if not options.seeds or not options.decodings:
        parser.error("--seeds and --decodings: expected at least one of each")
    return options


def main() -> int:
    options = parse()
    table = read_table(options.table)
    failures = []
    kinds = chosen(table, options.only)
    known = read_known(options.known)
    try:
        measured(
            [*shlex.split(options.recipe), "--stop-stage", "1", "--exp", str(options.exp)], options.exp / "data.log"
        )
        # A seed after the other: a first table of all kinds comes early.
        for seed in [COSTS] if options.costs else options.seeds:
            for kind in kinds:
                try:
                    if options.costs:
                        measure_costs(kind, options)
                    elif not is_known(kind, seed, known):
                        run(kind, seed, options)
                except Failed as error:
                    failures.append(f"{kind.name}, {'' if options.costs else 'seed '}{seed}: {error}")
                    print(f"failed: {failures[-1]}", flush=True)
    except Failed as error:
        raise UserError(str(error)) from error
    except KeyboardInterrupt:
        print("stopped; run the same command again to go on", file=sys.stderr)
        return 130

    from ablation import write_report  # with torch and matplotlib, whose memory the runs would begin with

    write_report(table, options.exp, options.out, options.decodings, known)
    for failure in failures:
        print(f"failed: {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"error: {error}")
