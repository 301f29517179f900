"""What the streams of a test set came to: the final texts of an event log, or a table of all that was decoded.

finals.py EVENTS.jsonl      texts in Kaldi's `text` format, the utterance named after its file
finals.py --table DIR       of <seconds>/<mode>[-live]: error rates and latencies, in Markdown
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any


def texts(log: Path) -> dict[str, str]:
    """The text of each source: of its final events, one after the other."""
    found: dict[str, list[str]] = defaultdict(list)
    for line in log.read_text(encoding="utf-8").splitlines():
        event = json.loads(line)
        name = Path(event["source"]).stem
        found[name] += [event["text"]] if event["event"] == "final" and event["text"] else []
    return {name: " ".join(parts) for name, parts in sorted(found.items())}


def table(folder: Path) -> str:
    """A line for each decoding; latencies are medians, in seconds of audio, and on the wall clock."""
    heads = [
        "chunk",
        "decoding",
        "WER",
        "CER",
        "sentence errors",
        "first word",
        "word",
        "final",
        "final, wall",
        "unstable words",
    ]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    paths = list(folder.glob("*/*/score.json"))
    for path in sorted(paths, key=lambda p: (-_seconds(p), p.parent.name)):
        score = json.loads(path.read_text(encoding="utf-8"))
        cells = [f"{_rate(score['wer'])}", f"{_rate(score['cer'])}", f"{score['ser']['rate']:.1%}"]
        latency = path.with_name("latency.json")
        cells += _latency(json.loads(latency.read_text(encoding="utf-8"))) if latency.is_file() else [""] * 5
        lines.append("| " + " | ".join([path.parent.parent.name, path.parent.name, *cells]) + " |")
    return "\n".join(lines) + "\n"


def _seconds(path: Path) -> float:
    name = path.parent.parent.name
    return float("inf") if name == "full" else float(name)


def _rate(score: dict[str, Any]) -> str:
    return f"{score['rate']:.2%}"


def _latency(content: dict[str, Any]) -> list[str]:
    """First word after it began, words and final text after they ended, that on the wall clock; words taken back."""
    medians = [content[name]["median"] for name in ("first_partial", "word", "final", "final_CA")]
    return [*(f"{value:.2f} s" for value in medians), f"{content['UPWR']:.0%}"]


def main() -> None:
    if len(sys.argv) == 3 and sys.argv[1] == "--table":
        print(table(Path(sys.argv[2])), end="")
    elif len(sys.argv) == 2:
        for name, text in texts(Path(sys.argv[1])).items():
            print(f"{name} {text}".rstrip())
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
