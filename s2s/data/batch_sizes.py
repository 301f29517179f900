"""Batch sizes that were measured for some shapes, and where they are kept."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from s2s.data.buckets import Lengths
from s2s.files import replacing

NAME = "batch_sizes.json"


@dataclass(frozen=True)
class BatchSizes:
    """How many utterances of at most these lengths fit; called, what a bucket of any lengths may take.

    That is the most of any shape which covers it, and one where none does.
    """

    tops: list[Lengths]
    sizes: list[int]

    def __call__(self, source: float, target: float) -> int:
        covering = (
            size for top, size in zip(self.tops, self.sizes, strict=True) if top[0] >= source and top[1] >= target
        )
        return max(covering, default=1)

    def halved(self, source: float, target: float, most: int) -> BatchSizes:
        """The same, with at most `most` wherever utterances may be as long as these lengths."""
        reaching = (top[0] >= source and top[1] >= target for top in self.tops)
        return BatchSizes(
            self.tops, [min(size, most) if long else size for size, long in zip(self.sizes, reaching, strict=True)]
        )


def place(data: Sequence[str]) -> Path:
    """The file beside some data: in the first folder, or next to the first file."""
    first = Path(data[0].removeprefix("shar:"))
    return first / NAME if first.is_dir() else first.with_name(f"{first.name}.{NAME}")


def load_sizes(path: Path, key: str) -> BatchSizes | None:
    """What was kept under a key, None where there is nothing that can be read."""
    kept = _read(path).get(key)
    try:
        return None if kept is None else BatchSizes([(s, t) for s, t in kept["tops"]], list(map(int, kept["sizes"])))
    except (KeyError, TypeError, ValueError):
        return None


def keep_sizes(path: Path, key: str, sizes: BatchSizes, about: Mapping[str, Any]) -> None:
    """Keep sizes under a key, beside those of others; `about` says what they were measured for."""
    with replacing(path) as beside:
        content = {**_read(path), key: {**about, **asdict(sizes)}}
        beside.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
