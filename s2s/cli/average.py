"""`s2s average`: one bundle from several checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def average(
    checkpoints: Annotated[
        list[Path], typer.Argument(metavar="DIR...", help="Checkpoints, or a training folder for the best it kept.")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Bundle to write.")],
    last: Annotated[
        int, typer.Option(min=0, metavar="N", help="Of a training folder, the last so many epochs; 0: all it kept.")
    ] = 0,
) -> None:
    """Average the weights of checkpoints of one training into a bundle."""
    from s2s.training.checkpoint import average as averaged
    from s2s.training.checkpoint import checkpoints_in

    folders = checkpoints_in(checkpoints, last)
    averaged(folders).save(out)
    print(f"{out}: the mean of {len(folders)} checkpoints ({', '.join(folder.name for folder in folders)})")
