"""What longer utterances cost and do: the table, plot and numbers of recipes/long.py."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ablation import provenance, read
from long import RECORD, System

from s2s.errors import UserError
from s2s.files import replacing
from s2s.scoring.transcripts import read_transcripts
from s2s.scoring.word_errors import score_words

Row = dict[str, Any]
MEASURES: dict[str, tuple[str, Callable[[float], str]]] = {
    "wer": ("word error rate (%)", lambda value: f"{100 * value:.1f}"),
    "rtf": ("real-time factor", lambda value: f"{value:.4f}"),
    "peak_mib": ("peak memory (MiB)", lambda value: f"{value:.0f}"),
}


def write_report(systems: Sequence[System], times: Sequence[int], exp: Path, out: Path) -> None:
    """Write results.json, table.md and plot.png into `out`, of what is finished in `exp`."""
    rows = [row_of(system, times, exp) for system in systems]
    rows = [row for row in rows if row["times"]]
    if not rows:
        raise UserError(f"{exp}: nothing is finished there yet, so there is no table to write")
    seconds = {n: mean_seconds(exp / "data" / str(n)) for n in times if any(str(n) in row["times"] for row in rows)}
    out.mkdir(parents=True, exist_ok=True)
    table = markdown(rows, seconds)
    with replacing(out / "results.json") as beside:
        record = {"measured": provenance(exp), "mean_seconds": seconds, "systems": rows}
        beside.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    with replacing(out / "table.md") as beside:
        beside.write_text(table, encoding="utf-8")
    draw(rows, seconds, out / "plot.png")
    print(f"{table}\n{out}: results.json, table.md, plot.png")


def row_of(system: System, times: Sequence[int], exp: Path) -> Row:
    """A system, and what was measured of it at each length that is finished."""
    found = {str(n): measures(exp / system.name / str(n), exp / "data" / str(n)) for n in times}
    return {
        "name": system.name,
        "bundle": str(system.bundle),
        "decoding": system.decoding,
        "overrides": list(system.overrides),
        "times": {n: measured for n, measured in found.items() if measured is not None},
    }


def measures(decoded: Path, data: Path) -> dict[str, float] | None:
    """Of one decoding; None where it is not finished."""
    if not (decoded / RECORD).is_file():
        return None
    report = score_words(read_transcripts(str(data / "text")), read_transcripts(str(decoded / "text")), "word", False)
    return {
        "wer": report.counts.rate,
        "errors": report.counts.errors,
        "deletions": report.counts.deletions,
        "insertions": report.counts.insertions,
        "words": report.counts.references,
        "rtf": read(decoded / "decode.json")["real_time_factor"],
        "peak_mib": read(decoded / RECORD)["peak_mib"],
    }


def mean_seconds(data: Path) -> float:
    """Of the utterances of a data directory."""
    lines = (data / "utt2dur").read_text(encoding="utf-8").splitlines()
    return round(sum(float(line.split()[1]) for line in lines) / len(lines), 2)


def markdown(rows: Sequence[Row], seconds: dict[int, float]) -> str:
    """A table for each measure, a line for each system."""
    parts = []
    for measure, (title, form) in MEASURES.items():
        heads = [title, *(f"{n} times ({mean:.1f} s)" for n, mean in seconds.items())]
        lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
        for row in rows:
            cells = (form(row["times"][str(n)][measure]) if str(n) in row["times"] else "" for n in seconds)
            lines.append("| " + " | ".join([row["name"], *cells]) + " |")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def draw(rows: Sequence[Row], seconds: dict[int, float], path: Path) -> None:
    """A PNG: each measure against the length of utterances, a line for each system."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(MEASURES), figsize=(14, 4), layout="constrained")
    for axes, (measure, (title, _)) in zip(panels, MEASURES.items(), strict=True):
        for row in rows:
            shown = [(n, row["times"][str(n)][measure]) for n in seconds if str(n) in row["times"]]
            values = [100 * value if measure == "wer" else value for _, value in shown]
            axes.plot([n for n, _ in shown], values, marker="o", markersize=4, label=row["name"])
        axes.set(title=title, xlabel="times as long (mean seconds)", ylim=(0, None))
        axes.set_xticks(list(seconds), [f"{n}\n({mean:.1f})" for n, mean in seconds.items()])
        axes.grid(alpha=0.3)
    panels[0].legend(fontsize="small")
    with replacing(path) as beside:
        figure.savefig(beside, dpi=110, format="png")
    pyplot.close(figure)
