"""What transformers says of a model, with the file that says it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from s2s.errors import UserError
from s2s.pretrained.checkpoints import CONFIG, GENERATION_CONFIG, read_json


class Settings:
    """What config.json of a folder says, and generation_config.json, which comes first where it is there."""

    def __init__(self, folder: Path) -> None:
        self.config = folder / CONFIG
        self.values, self.paths = read_json(self.config), dict[str, Path]()
        if (folder / GENERATION_CONFIG).is_file():
            generation = read_json(folder / GENERATION_CONFIG)
            self.values |= generation
            self.paths |= dict.fromkeys(generation, folder / GENERATION_CONFIG)

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a key, or `default`."""
        return self.values.get(key, default)

    def place(self, key: str) -> str:
        """The file and the key, for errors."""
        return f"{self.paths.get(key, self.config)}: {key}"

    def whole(self, key: str, least: int = 1) -> int:
        """A whole number; UserError for anything else."""
        value = self.values.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise UserError(f"{self.place(key)}: {value!r}, expected a whole number, {least} or more")
        return value

    def token(self, key: str, vocab_size: int) -> int:
        """A token; UserError for anything else."""
        index = self.whole(key, 0)
        if index >= vocab_size:
            raise UserError(f"{self.place(key)}: {index}, expected a token below {vocab_size}")
        return index
