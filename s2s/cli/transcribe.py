"""`s2s transcribe`: text of audio files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from s2s.cli.options import Device, Model, check_device


def transcribe(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Audio: wav, flac, ogg, opus or mp3, any rate.")
    ],
    model: Model,
    decoding: Annotated[str, typer.Option(metavar="NAME", help="joint, greedy, ctc_greedy, ...")] = "joint",
    beam_size: Annotated[int | None, typer.Option(min=1, help="Hypotheses kept in a beam search.")] = None,
    device: Device = "cpu",
) -> None:
    """Print the text of each file: alone for one file, after the file's name for several.

    A file that cannot be read is named on standard error and the others go on; the exit code is then 1.
    """
    from s2s.api import load
    from s2s.decoding.config import load_decoding_config
    from s2s.errors import UserError

    overrides = [f"decoding={decoding}"] + ([f"decoding.beam_size={beam_size}"] if beam_size else [])
    transcriber = load(model, load_decoding_config(overrides), check_device(device))
    failed = False
    for file in files:
        try:
            text = next(transcriber.transcribe(file)).text
        except UserError as error:
            print(f"s2s: error: {error}", file=sys.stderr)
            failed = True
        else:
            print(text if len(files) == 1 else f"{file}\t{text}", flush=True)
    if failed:
        raise typer.Exit(1)
