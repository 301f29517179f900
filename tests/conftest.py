"""Fixtures for every room."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from hypothesis import settings

Cli = Callable[..., tuple[int, str, str]]

settings.register_profile("seeded", deadline=None, derandomize=True)  # the same examples in every run
settings.load_profile("seeded")


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder with the real corpora."""
    root = os.environ.get("S2S_DATA")
    if not root:
        pytest.skip("set S2S_DATA to a folder with the real corpora (multi30k, kerstin-german-cc0, ...)")
    if not Path(root).is_dir():
        pytest.fail(f"S2S_DATA names '{root}', which is not a folder")
    return Path(root)


@pytest.fixture
def s2s_cli(monkeypatch: pytest.MonkeyPatch) -> Cli:
    """`s2s_cli("score", "wer", ...)` runs the command in this process and gives (exit code, stdout, stderr)."""

    def run(*arguments: object, stdin: str | bytes = b"") -> tuple[int, str, str]:
        from s2s.cli.main import main

        given = stdin.encode() if isinstance(stdin, str) else stdin
        out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", newline="", write_through=True) for _ in range(2))
        code = 0
        with monkeypatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.setattr(sys, "argv", ["s2s", *map(str, arguments)])
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given), "utf-8"))
            patch.setenv("COLUMNS", "200")  # no line breaks within typer's own messages
            try:
                main()
            except SystemExit as stop:
                code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        return code, out.buffer.getvalue().decode(), err.buffer.getvalue().decode()

    return run
