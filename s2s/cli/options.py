"""Options that several commands have, and what checks them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from s2s.errors import UserError, nearest

WRONG_USAGE = 2  # the exit code of typer's own messages too

ConfigDir = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Folder of your own configs; they may start from any of s2s's.")
]
Model = Annotated[Path, typer.Option(metavar="DIR", help="Bundle.")]
Data = Annotated[list[Path], typer.Option(metavar="DATA", help="Kaldi data directory or Lhotse cuts; repeat it.")]
Skip = Annotated[
    list[str] | None, typer.Option(metavar="KIND", help="Leave out utterances with this kind of problem; repeat it.")
]
NumWorkers = Annotated[int, typer.Option(min=0, help="Processes that read audio; 0 reads in the main one.")]
Device = Annotated[str, typer.Option(help="Where the model runs: cpu, cuda, ...")]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads on a CPU; default: as torch chooses.")]
Dtype = Annotated[
    str, typer.Option(help="Numbers to calculate with: float32, bfloat16, float16; int8: 8-bit weights on a CPU.")
]


def check_device(device: str) -> str:
    """`device` itself; UserError where torch does not know it or the machine lacks it."""
    import torch

    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {device}: {str(error).splitlines()[0]}") from error
    return device


def check_decoding(name: str | None) -> None:
    """UserError where there is no decoding of that name."""
    from s2s.conf import HERE

    names = sorted(path.stem for path in HERE.glob("decoding/*.yaml"))
    if name is not None and name not in names:
        raise UserError(f"--decoding {name}: expected one of {', '.join(names)}.{nearest(name, names)}")


@contextmanager
def usage() -> Iterator[None]:
    """Let a UserError about an option end the command, in one line, with the exit code of wrong usage."""
    try:
        yield
    except UserError as error:
        print(f"s2s: error: {error}", file=sys.stderr)
        raise typer.Exit(WRONG_USAGE) from error
