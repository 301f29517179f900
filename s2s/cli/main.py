"""The `s2s` command: one file per subcommand, errors in one line."""

from __future__ import annotations

import sys

import typer

from s2s.cli import (
    align,
    average,
    bundle,
    convert,
    data,
    decode,
    import_,
    info,
    lm,
    plot,
    prune,
    score,
    serve,
    stream,
    tokenizer,
    train,
    transcribe,
    translate,
)
from s2s.errors import UserError

app = typer.Typer(
    help="Speech and sequence-to-sequence models: train, decode, transcribe, score.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    train.train,
    average.average,
    decode.decode,
    transcribe.transcribe,
    stream.stream,
    serve.serve,
    translate.translate,
    align.align,
    prune.prune,
    convert.convert,
    bundle.bundle,
    info.info,
):
    app.command()(command)
app.add_typer(import_.app, name="import")
app.add_typer(data.app, name="data")
app.add_typer(tokenizer.app, name="tokenizer")
app.add_typer(lm.app, name="lm")
app.add_typer(score.app, name="score")
app.add_typer(plot.app, name="plot")


def main() -> None:
    """Entry point of the console command `s2s`."""
    try:
        app()
    except UserError as error:
        print(f"s2s: error: {error}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:  # no permission, no space, ...: the system's own words, with the file
        print(
            f"s2s: error: {f'{error.filename}: ' if error.filename else ''}{error.strerror or error}", file=sys.stderr
        )
        sys.exit(1)
    except KeyboardInterrupt:
        print("s2s: interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
