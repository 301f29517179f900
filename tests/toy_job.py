"""Work for processes that can be killed; they import it by this name."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from s2s.cli.jobs import Journal
from s2s.errors import UserError


def some_work(share: tuple[str, list[str], str]) -> None:
    """Note every name; be killed at one once, complain at another."""
    folder, names, died = share
    journal = Journal(Path(folder))
    for name in names:
        if name == "deadly" and not Path(died).exists():
            Path(died).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if name == "wrong":
            raise UserError("wrong: cannot be decoded")
        journal.write(name, {"pid": os.getpid()})
