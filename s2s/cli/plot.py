"""`s2s plot`: pictures of what models do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from s2s.cli.options import Device, check_decoding, check_device, usage
from s2s.errors import UserError

app = typer.Typer(help="Draw pictures of what models do.", no_args_is_help=True)


@app.callback()
def plot() -> None:
    """Draw pictures of what models do."""


@app.command()
def alignment(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Bundle, or name of a model (whisper-tiny.en, whisper-base, ...).")
    ],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Recording, of which at most 30 s are drawn.")],
    out: Annotated[
        Path | None,
        typer.Option(metavar="PNG", help="Picture to write; default: FILE's name with -alignment.png, in this folder."),
    ] = None,
    text: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What was said; default: what the model recognises.")
    ] = None,
    decoding: Annotated[
        str | None, typer.Option(metavar="NAME", help="How it is recognised, as for `s2s transcribe`.")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="decoding.beam_size=4, ...; repeat it.")
    ] = None,
    heads: Annotated[
        str | None,
        typer.Option(
            metavar="WHICH",
            help="Heads drawn below their mean: all (the default, where there are at most 64), layers (the mean of "
            "each) or mean (none).",
        ),
    ] = None,
    start: Annotated[float, typer.Option(min=0.0, metavar="SECONDS", help="Draw from here on.")] = 0.0,
    end: Annotated[float | None, typer.Option(metavar="SECONDS", help="Draw up to here; default: the end.")] = None,
    language: Annotated[
        str | None, typer.Option(metavar="LANGUAGE", help="What is spoken: de or German; of multilingual models.")
    ] = None,
    channel: Annotated[int | None, typer.Option(min=1, help="Channel to hear; default: the mean of all.")] = None,
    device: Device = "cpu",
) -> None:
    """Draw where a model looked for each token: words over the spectrogram, CTC spikes, and attention heads below.

    Heads that stop (monotonic attention) have their stops drawn as steps, segmental models the ends of segments.

    Example: s2s plot alignment exp/official/bundle recording.wav --out alignment.png
    """
    import torch

    from s2s.api import default_decoding, load
    from s2s.decoding.config import load_decoding_config
    from s2s.pictures.alignment import check_heads, draw_alignment
    from s2s.pictures.sight import see
    from s2s.pretrained.names import find_model
    from s2s.transcription.recording import Recording

    with usage():
        check_decoding(decoding)
        check_heads(heads)
        if end is not None and end <= start:
            raise UserError(f"--end {end:g}: expected more than --start {start:g}")
    check_device(device)
    bundle = find_model(model)
    config = None
    if decoding or overrides:
        config = load_decoding_config([f"decoding={decoding or default_decoding(bundle)}", *(overrides or [])])
    transcriber = load(bundle, config, device)
    rate = transcriber.sampling_rate
    samples = torch.cat(list(Recording.of(file, channel).blocks(rate)))
    part = samples[round(start * rate) : None if end is None else round(end * rate)]
    if not len(part):
        raise UserError(f"{file}: {len(samples) / rate:.1f} s long; nothing is there from --start {start:g} on")
    try:
        sight = see(transcriber, part, text, language, start)
    except UserError as error:
        raise UserError(f"{file}: {error}") from error
    path = out or Path(f"{file.stem}-alignment.png")
    how = "given text" if text else f"decoding={decoding or default_decoding(bundle)}"
    draw_alignment(sight, path, f"{file.name}: {model}, {how}", heads)
    print(path)
