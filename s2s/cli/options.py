"""Options that several commands have, and the check of one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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


def check_device(device: str) -> str:
    """`device` itself; UserError where torch does not know it or the machine lacks it."""
    import torch

    from s2s.errors import UserError

    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {device}: {str(error).splitlines()[0]}") from error
    return device
