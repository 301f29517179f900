"""What the runs of `ablate.py` came to: a record (JSON), a table (Markdown) and a plot.

Every measure is one of a run, and the table has its mean over the seeds and, where there are several, its range; speed
and memory are those of `--costs` where that was run:

- word error rate of each decoding mode, of the recipe's test set;
- seconds of audio trained on per second, validation included (`metrics.jsonl`);
- real-time factor of each mode (`decode.json`);
- most memory of a process, in training and in decoding, of all modes (resident, as the system counts it).

Of the averaged model: parameters, and bytes that a search keeps of each token and each frame for the attention of the
decoder (`cache_bytes`).
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ablate import COSTS, Kind, Row, decoded_in, modes_of, read_record, row_name, seeds_of

from s2s.errors import UserError
from s2s.files import replacing

TEST = "test"
SPEED, TRAIN_MEMORY, DECODE_MEMORY = "audio seconds a second", "training MiB", "decoding MiB"


def write_report(kinds: Sequence[Kind], exp: Path, out: Path, modes: list[str], known: dict[str, Row]) -> None:
    """Write results.json, table.md and plot.png into `out`, of what is finished in `exp` or known from before."""
    own = {row["name"]: row for kind in kinds for row in rows_of(kind, exp, modes)}
    names = [row_name(kind, decoding) for kind in kinds for decoding in ("", *kind.decodings)]
    rows = [joined(known.get(name), own.get(name)) for name in names if name in known or name in own]
    if not rows:
        raise UserError(f"{exp}: nothing is finished there yet, so there is no table to write")
    out.mkdir(parents=True, exist_ok=True)
    table = markdown(rows, modes)
    with replacing(out / "results.json") as beside:
        record = {"measured": provenance(exp), "modes": list(modes), "rows": rows}
        beside.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    with replacing(out / "table.md") as beside:
        beside.write_text(table, encoding="utf-8")
    draw(rows, modes, out / "plot.png")
    print(f"{table}\n{out}: results.json, table.md, plot.png")


def joined(known: Row | None, own: Row | None) -> Row:
    """A row with the seeds of both; all else is of our own runs where there are any."""
    if known is None or own is None:
        return known or own or {}
    seeds = {**known["seeds"], **own["seeds"]}
    ordered = {seed: seeds[seed] for seed in sorted(seeds, key=int)}
    return {**known, **own, "seeds": ordered, "costs": own["costs"] or known["costs"]}


def rows_of(kind: Kind, exp: Path, modes: list[str]) -> list[Row]:
    """A row for a kind and one for each of its further decodings, without those of which no seed is finished."""
    rows = []
    costs = exp / kind.name / COSTS
    for name, overrides in {"": (), **kind.decodings}.items():
        own = modes_of(name, modes)
        folders = {path: decoded_in(path, name) for path in (*seeds_of(kind, exp), costs)}
        runs = {path.name: measures(path, at, own) for path, at in folders.items() if is_finished(at, own)}
        measured = runs.pop(COSTS, None)
        if runs:
            rows.append(
                {
                    "name": row_name(kind, name),
                    "overrides": [*kind.overrides, *overrides],
                    **facts(exp / kind.name / next(iter(runs)) / "averaged"),
                    "seeds": runs,
                    "costs": measured,
                }
            )
    return rows


def is_finished(decoded: Path, modes: list[str]) -> bool:
    return all((decoded / "decode" / TEST / mode / "score.json").is_file() for mode in modes)


def measures(trained: Path, decoded: Path, modes: list[str]) -> dict[str, float | None]:
    """All measures of one run, by name; None for what is not known."""
    found: dict[str, float | None] = {}
    for mode in modes:
        folder = decoded / "decode" / TEST / mode
        score, speed = read(folder / "score.json"), read(folder / "decode.json")
        found |= {wer(mode): score["wer"]["rate"], rtf(mode): speed["real_time_factor"]}
    lines = (trained / "train" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    last = json.loads(lines[-1])
    audio = training_seconds(trained / "train" / "train.yaml")
    found[SPEED] = audio and round(audio * last["epoch"] / last["seconds"], 2)
    found[TRAIN_MEMORY] = read_record(trained).get("train", {}).get("peak_mib")
    found[DECODE_MEMORY] = read_record(decoded).get("decode", {}).get("peak_mib")
    return found


def wer(mode: str) -> str:
    return f"WER {mode}"


def rtf(mode: str) -> str:
    return f"RTF {mode}"


def read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return content
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable ({error}); remove the run's folder and run it again") from error


def training_seconds(config: Path) -> float | None:
    """Audio of an epoch: the sum of `utt2dur` of the training data; None where a data set has no such file."""
    import yaml

    folders = [Path(folder) for folder in yaml.safe_load(config.read_text(encoding="utf-8"))["data"]["train"]]
    if not all((folder / "utt2dur").is_file() for folder in folders):
        return None
    lines = [line for folder in folders for line in (folder / "utt2dur").read_text(encoding="utf-8").splitlines()]
    return sum(float(line.split()[1]) for line in lines)


def facts(bundle: Path) -> dict[str, float | None]:
    """What is the same for all seeds; None for the cache of a decoder whose attention is of its own kind."""
    from s2s.models.attentions import cache_bytes
    from s2s.models.bundle import load_bundle

    model = load_bundle(bundle).model
    token, frame = cache_bytes(model)
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "cache_bytes_a_token": token or None,
        "cache_bytes_a_frame": frame or None,
    }


def provenance(exp: Path) -> dict[str, Any]:
    """Machine, versions, date and commit."""
    import torch

    commit = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "commit": commit.stdout.strip() or None,
    }


def values(row: Row, measure: str) -> list[float]:
    """A measure of all seeds that have it, or that of the costs alone where they were measured apart."""
    apart = row["costs"] is not None and not measure.startswith("WER")
    return [
        run[measure] for run in ([row["costs"]] if apart else row["seeds"].values()) if run.get(measure) is not None
    ]


def cell(row: Row, measure: str, form: str) -> str:
    """Mean and range, such as "4.2% (3.9% to 4.5%)"."""
    found = values(row, measure)
    if not found:
        return ""
    text = f"{sum(found) / len(found):{form}}"
    return text if len(found) == 1 else f"{text} ({min(found):{form}} to {max(found):{form}})"


def count(number: float | None) -> str:
    return "" if number is None else f"{number:,.0f}"


def mean(row: Row, measure: str, form: str) -> str:
    found = values(row, measure)
    return f"{sum(found) / len(found):{form}}" if found else ""


def markdown(rows: Sequence[Row], modes: list[str]) -> str:
    """The table: a line for a row, in their order."""
    heads = ["kind", "parameters", "bytes a token", "bytes a frame", *map(wer, modes), SPEED, *map(rtf, modes)]
    heads += [TRAIN_MEMORY, DECODE_MEMORY, "seeds"]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for row in rows:
        cells = [
            row["name"],
            *(count(row[key]) for key in ("parameters", "cache_bytes_a_token", "cache_bytes_a_frame")),
            *(cell(row, wer(mode), ".1%") for mode in modes),
            mean(row, SPEED, ".0f"),
            *(mean(row, rtf(mode), ".4f") for mode in modes),
            mean(row, TRAIN_MEMORY, ".0f"),
            mean(row, DECODE_MEMORY, ".0f"),
            " ".join(row["seeds"]),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def draw(rows: Sequence[Row], modes: list[str], path: Path) -> None:
    """A PNG: for each row, word error rates, speeds and memory side by side, with the range over seeds as a bar."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = {
        "word error rate (%)": ({mode: wer(mode) for mode in modes}, 100),
        "audio seconds trained on per second": ({"": SPEED}, 1),
        "real-time factor": ({mode: rtf(mode) for mode in modes}, 1),
        "memory (MiB)": ({"training": TRAIN_MEMORY, "decoding": DECODE_MEMORY}, 1),
    }
    height = 1.2 + 0.3 * len(rows)
    figure, all_axes = pyplot.subplots(1, len(panels), figsize=(16, height), sharey=True, layout="constrained")
    for axes, (title, (series, factor)) in zip(all_axes, panels.items(), strict=True):
        for label, measure in series.items():
            shown = [(i, [factor * value for value in values(row, measure)]) for i, row in enumerate(rows)]
            shown = [(i, found) for i, found in shown if found]
            means = [sum(found) / len(found) for _, found in shown]
            below = [middle - min(found) for middle, (_, found) in zip(means, shown, strict=True)]
            above = [max(found) - middle for middle, (_, found) in zip(means, shown, strict=True)]
            places = [i for i, _ in shown]
            axes.errorbar(means, places, xerr=[below, above], fmt="o", markersize=4, capsize=2, label=label)
        axes.set(xlabel=title)
        axes.grid(alpha=0.3)
        if len(series) > 1:
            axes.legend(fontsize="small")
    all_axes[0].set_yticks(range(len(rows)), [row["name"] for row in rows])
    all_axes[0].invert_yaxis()
    with replacing(path) as beside:
        figure.savefig(beside, dpi=100, format="png")
    pyplot.close(figure)
