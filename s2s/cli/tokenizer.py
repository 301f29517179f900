"""`s2s tokenizer`: learn a vocabulary, text to ids, ids to text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Learn tokenizers and use them.", no_args_is_help=True)

Model = Annotated[Path, typer.Option("--model", metavar="DIR", help="Folder `s2s tokenizer train` wrote.")]


@app.command()
def train(
    texts: Annotated[
        list[str], typer.Argument(metavar="TEXT...", help="UTF-8 text, one sentence a line; `-` is standard input.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder to write the tokenizer to.")],
    kind: Annotated[
        str,
        typer.Option(
            "--kind", help="Pieces: unigram, bpe, char, word (what stands between spaces), or lexicon (phonemes)."
        ),
    ] = "unigram",
    vocab_size: Annotated[
        int | None,
        typer.Option(
            "--vocab-size",
            help="Pieces, the special ones included; for char, word, lexicon: at most so many (default: all).",
        ),
    ] = None,
    character_coverage: Annotated[
        float,
        typer.Option(
            "--character-coverage", help="Share of the text's characters to know (unigram, bpe); 0.9995 for kanji."
        ),
    ] = 1.0,
    lexicon: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Of --kind lexicon: a word and its phonemes a line, as CMUdict has it."),
    ] = None,
    kaldi: Annotated[bool, typer.Option("--kaldi", help="Lines are `id words...`: drop the first field.")] = False,
    translation: Annotated[
        bool, typer.Option("--translation", help="For text translation: one vocabulary of all languages of the text.")
    ] = False,
    language: Annotated[
        list[str] | None,
        typer.Option(metavar="CODE", help="A language of a model that prompts tell which one to write; repeat."),
    ] = None,
    task: Annotated[
        list[str] | None,
        typer.Option(metavar="TASK", help="Task of prompts; repeat (default: transcribe, translate)."),
    ] = None,
) -> None:
    """Learn a tokenizer from text."""
    from s2s.errors import UserError
    from s2s.scoring.transcripts import numbered_lines
    from s2s.tokenizers import JointTokenizer, train_tokenizer
    from s2s.tokenizers.lexicon import read_lexicon
    from s2s.tokenizers.prompts import TASKS

    if task and not language:
        raise UserError("--task: is a word of prompts; give their languages too (--language), or leave it out")

    def lines() -> Iterator[str]:
        for text in texts:
            for _, line in numbered_lines(text):
                yield " ".join(line.split(maxsplit=1)[1:]) if kaldi else line

    if lexicon and kind != "lexicon":
        raise UserError(f"--lexicon: is for --kind lexicon, this is {kind}; leave it out")
    pronunciations = read_lexicon(lexicon) if lexicon else None
    tokenizer = train_tokenizer(kind, lines(), vocab_size, character_coverage, pronunciations)
    if translation or language:
        try:
            tokenizer = JointTokenizer(tokenizer, language or (), task or TASKS)
        except ValueError as error:
            raise UserError(f"--language, --task: {error}") from error
    tokenizer.save(out)
    typer.echo(f"{out}: {tokenizer.kind} tokenizer, {tokenizer.vocab_size} pieces", err=True)


@app.command()
def encode(
    model: Model,
    file: Annotated[
        str, typer.Argument(metavar="[FILE]", help="Text, one sentence a line; `-` is standard input.")
    ] = "-",
    pieces: Annotated[bool, typer.Option("--pieces", help="Print the pieces in place of their ids.")] = False,
) -> None:
    """Text to ids, a line for a line; begin and end of sentence are not added."""
    from s2s.scoring.transcripts import numbered_lines
    from s2s.tokenizers import load_tokenizer

    tokenizer = load_tokenizer(model)
    for _, line in numbered_lines(file):
        ids = tokenizer.encode(line)
        typer.echo(" ".join(tokenizer.pieces(ids) if pieces else map(str, ids)))


@app.command()
def decode(
    model: Model,
    file: Annotated[
        str, typer.Argument(metavar="[FILE]", help="Ids, separated by spaces; `-` is standard input.")
    ] = "-",
) -> None:
    """Ids to text, a line for a line; special ids are passed over."""
    from s2s.errors import UserError
    from s2s.scoring.transcripts import numbered_lines
    from s2s.tokenizers import load_tokenizer

    tokenizer = load_tokenizer(model)
    for number, line in numbered_lines(file):
        where = f"{'standard input' if file == '-' else file}:{number}"
        fields = line.split()
        for field in fields:
            if not (field.isascii() and field.isdigit()):
                raise UserError(f"{where}: '{field}' is not an id: expected whole numbers separated by spaces")
        try:
            typer.echo(tokenizer.decode([int(field) for field in fields]))
        except ValueError as error:
            raise UserError(f"{where}: {error}; is {model} the tokenizer these ids are from?") from error
