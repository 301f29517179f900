"""Files of JSON objects, one a line, read with the line of every mistake."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any

from s2s.errors import UserError
from s2s.scoring.transcripts import numbered_lines


@dataclass(frozen=True)
class JsonLine:
    """One object, and the file and line it stands on; every reader raises UserError naming them and the key."""

    where: str
    content: dict[str, Any]

    def __contains__(self, key: str) -> bool:
        """Whether the key is there and not null."""
        return self.content.get(key) is not None

    def get(self, key: str) -> Any:
        if key not in self.content:
            raise UserError(f"{self.where}: no '{key}': the line is not whole or of another format")
        return self.content[key]

    def text(self, key: str) -> str:
        value = self.get(key)
        if not isinstance(value, str):
            raise self.wrong(key, "a string")
        return value

    def number(self, key: str) -> float:
        """A finite number."""
        value = self.get(key)
        if not _is_number(value):
            raise self.wrong(key, "a finite number")
        return float(value)

    def times(self, key: str) -> tuple[float, ...]:
        """Finite numbers from 0 on, none less than the one before."""
        values = self.get(key)
        if not isinstance(values, list) or not all(_is_number(value) for value in values):
            raise self.wrong(key, "a list of finite numbers")
        previous = 0.0
        for position, value in enumerate(values, start=1):
            if value < previous:
                raise UserError(f"{self.where}: '{key}' falls from {previous:g} to {value:g} at its item {position}")
            previous = value
        return tuple(values)

    def wrong(self, key: str, expected: str) -> UserError:
        """The error to raise for a value of another kind."""
        shown = json.dumps(self.content[key], ensure_ascii=False)
        return UserError(f"{self.where}: '{key}' is {shown[:60]}; expected {expected}")


def read_json_lines(path: str | os.PathLike[str]) -> list[JsonLine]:
    """The objects of a UTF-8 file ("-": standard input); blank lines are passed over.

    Raises UserError, with file and line, for what is not a JSON object, and where there is none.
    """
    name = "standard input" if os.fspath(path) == "-" else os.fspath(path)
    lines = []
    for number, line in numbered_lines(path):
        if not line.strip():
            continue
        try:
            content = json.loads(line)
        except ValueError as error:
            raise UserError(f"{name}:{number}: not JSON ({error}); expected one object a line") from error
        if not isinstance(content, dict):
            raise UserError(f"{name}:{number}: expected a JSON object, one a line")
        lines.append(JsonLine(f"{name}:{number}", content))
    if not lines:
        raise UserError(f"{name}: no lines in it; expected a JSON object a line")
    return lines


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15  # and not NaN
