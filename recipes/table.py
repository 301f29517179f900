"""A table of all that a recipe has translated or recognised: a line for each direction, in Markdown.

table.py DIR --learnt en-de de-en

DIR has a folder for each direction (`en-de`, or `en-en` where it was recognised), or for each system a folder of
such, in it `bleu.json`, `chrf.json` or `wer.json` as `s2s score` wrote them. A direction that was not learnt is
marked as zero-shot.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

TITLES = {"bleu": "BLEU", "chrf": "chrF", "ter": "TER", "wer": "WER"}


def read(folder: Path) -> dict[str, dict[str, Any]]:
    """What each metric says of a direction."""
    paths = {name: folder / f"{name}.json" for name in TITLES}
    return {name: json.loads(path.read_text(encoding="utf-8")) for name, path in paths.items() if path.is_file()}


def shown(name: str, score: dict[str, Any]) -> str:
    return f"{score['wer']['rate']:.1%}" if name == "wer" else f"{score['score']:.1f}"


def table(folder: Path, learnt: list[str]) -> str:
    """Directions of all systems in a folder, what was learnt first, means of several at the end."""
    rows: list[tuple[str, str, dict[str, dict[str, Any]]]] = []
    for path in sorted({each.parent for metric in TITLES for each in folder.glob(f"**/{metric}.json")}):
        system = str(path.parent.relative_to(folder))
        rows.append(("" if system == "." else system, path.name, read(path)))
    metrics = [name for name in TITLES if any(name in scores for _, _, scores in rows)]
    heads = ["system", "direction", *(TITLES[name] for name in metrics)]
    lines = []
    for system in dict.fromkeys(system for system, _, _ in rows):
        own = [(pair, scores) for each, pair, scores in rows if each == system]
        for is_learnt in (True, False):
            some = [(pair, scores) for pair, scores in own if (pair in learnt) == is_learnt]
            for pair, scores in some:
                cells = [shown(name, scores[name]) if name in scores else "" for name in metrics]
                lines.append([system, pair if is_learnt or system else f"{pair} (zero-shot)", *cells])
            values = {
                name: [scores[name]["score"] for _, scores in some if name in scores]
                for name in metrics
                if name != "wer"
            }
            if any(len(each) > 1 for each in values.values()):
                means = [f"{sum(values[n]) / len(values[n]):.1f}" if values.get(n) else "" for n in metrics]
                lines.append([system, "mean" if is_learnt else "mean (zero-shot)", *means])
    if not any(line[0] for line in lines):
        heads, lines = heads[1:], [line[1:] for line in lines]
    else:
        lines = [[line[0] or "direct", *line[1:]] for line in lines]
    signatures = {str(s[n]["signature"]) for _, _, s in rows for n in metrics if n in s and s[n].get("signature")}
    notes = "".join(f"\n{signature}" for signature in sorted(signatures))
    written = ["| " + " | ".join(line) + " |" for line in lines]
    return (
        "\n".join(["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads), *written])
        + "\n"
        + notes
        + "\n" * bool(notes)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--learnt", nargs="*", default=[], metavar="PAIR")
    options = parser.parse_args()
    found = table(options.folder, options.learnt)
    if not options.folder.is_dir():
        sys.exit(f"error: {options.folder}: no such folder")
    print(found, end="")


if __name__ == "__main__":
    main()
