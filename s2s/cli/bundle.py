"""`s2s bundle`: a model ready to be given away."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def bundle(
    model: Annotated[Path, typer.Argument(metavar="DIR", help="Checkpoint or averaged bundle.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Bundle to write.")],
    title: Annotated[str, typer.Option(help="First line of the model card.")] = "Speech recognition model",
    training_data: Annotated[str, typer.Option(help="What it was trained on, with the licence.")] = "not stated",
    results: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FILE", help="What it scored (the lines of `s2s score`) on a test set; repeat it."),
    ] = None,
) -> None:
    """Write a bundle with a model card (README.md): config, weights, tokenizer, how to use it, what it scored."""
    from s2s.errors import UserError
    from s2s.files import replacing
    from s2s.models.bundle import CARD
    from s2s.models.card import model_card
    from s2s.training.checkpoint import load_trained

    loaded = load_trained(model)
    scored = {}
    for given in results or []:
        name, _, file = given.partition("=")
        if not file or not Path(file).is_file():
            raise UserError(f"--results {given}: expected NAME=FILE with a file that exists")
        scored[name] = Path(file).read_text(encoding="utf-8").strip()
    with replacing(out) as beside:
        loaded.write(beside)
        (beside / CARD).write_text(model_card(loaded, out.name, title, training_data, scored), encoding="utf-8")
    print(f"{out}: {sum(file.stat().st_size for file in out.rglob('*') if file.is_file()) / 1e6:.1f} MB")
