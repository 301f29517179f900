"""`s2s import`: other people's weights into a bundle."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Make bundles of other people's weights.", no_args_is_help=True)

Out = Annotated[Path, typer.Argument(metavar="DIR", help="Bundle to write.")]
_TRANSLATION = "a folder that transformers wrote, or a repository of the Hugging Face hub"


@app.command()
def whisper(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SRC",
            help="Weights of Whisper: a name (whisper-base, large-v3, ...), a folder that transformers or CTranslate2 "
            "wrote, OpenAI's .pt file, or a repository of the Hugging Face hub (openai/whisper-base).",
        ),
    ],
    out: Out,
    vocabulary: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="tokenizer.json, .tiktoken file or bundle with the vocabulary, where SRC has none or another.",
        ),
    ] = None,
) -> None:
    """Write a bundle of Whisper: config, weights, vocabulary and a model card."""
    from s2s.pretrained.names import import_whisper

    _write(out, lambda beside: import_whisper(source, beside, out.name, vocabulary))


@app.command()
def marian(
    source: Annotated[str, typer.Argument(metavar="SRC", help=f"Marian: {_TRANSLATION} (Helsinki-NLP/opus-mt-en-de).")],
    out: Out,
) -> None:
    """Write a bundle of a translation model of Marian (OPUS-MT)."""
    from s2s.pretrained.seq2seq import import_seq2seq

    _write(out, lambda beside: import_seq2seq(source, beside, out.name, "marian"))


@app.command()
def bart(
    source: Annotated[str, typer.Argument(metavar="SRC", help=f"BART: {_TRANSLATION} (facebook/bart-large-cnn).")],
    out: Out,
) -> None:
    """Write a bundle of BART, text to text."""
    from s2s.pretrained.seq2seq import import_seq2seq

    _write(out, lambda beside: import_seq2seq(source, beside, out.name, "bart"))


def _write(out: Path, make: Callable[[Path], None]) -> None:
    """Have a bundle made beside `out`, and put it there; UserError where something else is there."""
    from s2s.errors import UserError
    from s2s.files import replacing
    from s2s.models.bundle import CONFIG

    if out.exists() and not (out / CONFIG).is_file() and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(f"{out}: exists and is not a bundle; give a folder that does not exist, or a bundle to replace")
    with replacing(out) as beside:
        make(beside)
    print(f"{out}: {sum(file.stat().st_size for file in out.rglob('*') if file.is_file()) / 1e6:.1f} MB")
