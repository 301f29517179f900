"""One table of several decodings of a test set."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from s2s.errors import UserError

HEADER = "| decoding | WER | CER | sentence errors | RTF |\n|---|---|---|---|---|\n"


def decoding_table(folder: str | os.PathLike[str]) -> str:
    """A Markdown table of the folders in `folder` that have a `score.json` and a `decode.json`.

    The first is what `s2s score wer --cer --json` prints, the second what `s2s decode` writes. Sorted by word error
    rate, then by real-time factor. Raises UserError where there is none, or one is not whole.
    """
    rows = []
    for path in sorted(Path(folder).glob("*/score.json")):
        score, decoded = _read(path), _read(path.with_name("decode.json"))
        try:
            wer, cer, sentences, factor = score["wer"], score["cer"], score["ser"], decoded["real_time_factor"]
            errors = f"{wer['insertions']} ins, {wer['deletions']} del, {wer['substitutions']} sub"
            cells = (
                path.parent.name,
                f"{wer['rate']:.2%} ({errors})",
                f"{cer['rate']:.2%}",
                f"{sentences['rate']:.2%} ({sentences['errors']} of {sentences['references']})",
                f"{factor:.4f}",
            )
        except (KeyError, TypeError) as error:
            problem = f"score.json or decode.json lacks {error}"
            raise UserError(f"{path.parent}: {problem}; decode and score again") from error
        rows.append((wer["rate"], factor, "| " + " | ".join(cells) + " |\n"))
    if not rows:
        raise UserError(f"{folder}: no */score.json in it; expected the folder of a test set that a recipe decoded")
    return HEADER + "".join(row for *_, row in sorted(rows))


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; decode and score again") from error
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}); decode and score again") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a JSON object; decode and score again")
    return content
