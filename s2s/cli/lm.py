"""`s2s lm`: language models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Make language models.", no_args_is_help=True)


@app.callback()
def language_models() -> None:
    """Make language models."""


@app.command()
def ngram(
    texts: Annotated[
        list[str], typer.Argument(metavar="TEXT...", help="UTF-8 text, one sentence a line; `-` is standard input.")
    ],
    tokenizer: Annotated[Path, typer.Option(metavar="DIR", help="Its pieces are the words: that of the recogniser.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The model, as an ARPA text file.")],
    order: Annotated[int, typer.Option(min=1, help="Words of the longest n-grams.")] = 4,
    kaldi: Annotated[bool, typer.Option("--kaldi", help="Lines are `id words...`: drop the first field.")] = False,
    discount_fallback: Annotated[
        bool, typer.Option("--discount-fallback", help="Discounts of 0.5, 1 and 1.5 where the text tells none.")
    ] = False,
) -> None:
    """Estimate an n-gram model by modified Kneser-Ney smoothing, for decoding.ngram; empty lines are left out."""
    from s2s.decoding.arpa import words_of
    from s2s.scoring.transcripts import numbered_lines
    from s2s.tokenizers import load_tokenizer
    from s2s.training.kneser_ney import count_ngrams, estimate, write_arpa

    pieces = load_tokenizer(tokenizer)

    def sentences() -> Iterator[list[int]]:
        for text in texts:
            for _, line in numbered_lines(text):
                sentence = " ".join(line.split(maxsplit=1)[1:]) if kaldi else line
                if sentence.strip():
                    yield pieces.encode(sentence)

    orders = count_ngrams(sentences(), order, pieces.bos_id, pieces.eos_id)
    model = estimate(orders, pieces.bos_id, pieces.unk_id, discount_fallback)
    write_arpa(model, words_of(pieces), out)
    for n, (counted, steps) in enumerate(zip(model.orders, model.discounts, strict=True), start=1):
        shown = ", ".join(f"{step:.3f}" for step in steps)
        typer.echo(f"{n}-grams: {len(counted.word):,}, discounts {shown}", err=True)
    typer.echo(f"{out}: written", err=True)
