"""Outputs that are whole or absent: write beside, then rename."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a path beside `path` to write a file or a folder to; on success it takes the place of `path`.

    On any error, Ctrl-C included, what was written beside is removed and `path` stays as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield beside
        if beside.is_dir() and path.is_dir():  # a folder cannot be renamed onto a full one
            old = path.with_name(f".{path.name}.{os.getpid()}.old")
            path.rename(old)
            beside.rename(path)
            shutil.rmtree(old)
        else:
            beside.replace(path)
    finally:
        if beside.is_dir():
            shutil.rmtree(beside)
        else:
            beside.unlink(missing_ok=True)


def remove(path: str | os.PathLike[str]) -> None:
    """Remove a file or a folder, which is never there in part under its own name."""
    path = Path(path)
    if not path.is_dir():
        path.unlink(missing_ok=True)
        return
    hidden = path if path.name.startswith(".") else path.with_name(f".{path.name}.{os.getpid()}.old")
    path.rename(hidden)
    shutil.rmtree(hidden)
