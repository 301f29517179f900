"""`s2s lm`: language models."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from s2s.cli.options import Data, Device, Model, NumWorkers, Skip, check_device

app = typer.Typer(help="Language models: n-grams, perplexity, what a decoder knows by itself.", no_args_is_help=True)

Texts = Annotated[
    list[str], typer.Argument(metavar="TEXT...", help="UTF-8 text, one sentence a line; `-` is standard input.")
]
Kaldi = Annotated[bool, typer.Option("--kaldi", help="Lines are `id words...`: drop the first field.")]


def _lines(texts: list[str], kaldi: bool) -> Iterator[str]:
    """The lines of all files, empty ones too."""
    from s2s.scoring.transcripts import numbered_lines

    for text in texts:
        for _, line in numbered_lines(text):
            yield " ".join(line.split(maxsplit=1)[1:]) if kaldi else line


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on the terminal; yields what to tell how many more are done, and how many there are."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=None)

        def tell(more: int, total: int) -> None:
            progress.update(task, advance=more, total=total)

        yield tell


@app.command()
def ngram(
    texts: Texts,
    tokenizer: Annotated[Path, typer.Option(metavar="DIR", help="Its pieces are the words: that of the recogniser.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The model, as an ARPA text file.")],
    order: Annotated[int, typer.Option(min=1, help="Words of the longest n-grams.")] = 4,
    kaldi: Kaldi = False,
    discount_fallback: Annotated[
        bool, typer.Option("--discount-fallback", help="Discounts of 0.5, 1 and 1.5 where the text tells none.")
    ] = False,
) -> None:
    """Estimate an n-gram model by modified Kneser-Ney smoothing, for decoding.ngram; empty lines are left out."""
    from s2s.decoding.arpa import words_of
    from s2s.tokenizers import load_tokenizer
    from s2s.training.kneser_ney import count_ngrams, estimate, write_arpa

    pieces = load_tokenizer(tokenizer)
    sentences = (pieces.encode(line) for line in _lines(texts, kaldi) if line.strip())
    orders = count_ngrams(sentences, order, pieces.bos_id, pieces.eos_id)
    model = estimate(orders, pieces.bos_id, pieces.unk_id, discount_fallback)
    write_arpa(model, words_of(pieces), out)
    for n, (counted, steps) in enumerate(zip(model.orders, model.discounts, strict=True), start=1):
        shown = ", ".join(f"{step:.3f}" for step in steps)
        typer.echo(f"{n}-grams: {len(counted.word):,}, discounts {shown}", err=True)
    typer.echo(f"{out}: written", err=True)


@app.command()
def perplexity(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="Folder of a language model, or an n-gram file (ARPA, KenLM).")
    ],
    texts: Texts,
    tokenizer: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Of an n-gram file: the tokenizer whose pieces are its words.")
    ] = None,
    kaldi: Kaldi = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    device: Device = "cpu",
) -> None:
    """Measure how well a language model foretells a text: perplexity per token and per word, ends of sentences counted.

    Empty lines are counted and left out. Models of one tokenizer can be compared by either, others per word.
    """
    import json
    from dataclasses import asdict
    from math import isfinite

    from s2s.decoding.given_texts import Judge
    from s2s.decoding.given_texts import perplexity as measure
    from s2s.decoding.ngram import load_ngram
    from s2s.errors import UserError
    from s2s.models.lm_bundle import load_language_model
    from s2s.tokenizers import load_tokenizer

    judge: Judge
    if model.is_dir():
        if tokenizer:
            raise UserError(f"--tokenizer: is for n-gram files; {model} has its own, leave it out")
        bundle = load_language_model(model, check_device(device))
        judge, pieces = bundle.model, bundle.tokenizer
    else:
        if not tokenizer:
            raise UserError(f"{model}: is no folder; for an n-gram file, give --tokenizer too, whose pieces it is of")
        pieces = load_tokenizer(tokenizer)
        judge = load_ngram(model, pieces)
    with _progress("sentences") as tell:
        found = measure(judge, pieces, _lines(texts, kaldi), device, tell=tell)
    numbers = {"per_token": found.per_token, "per_word": found.per_word}
    if as_json:
        finite = {name: value if isfinite(value) else None for name, value in (numbers | asdict(found)).items()}
        typer.echo(json.dumps(finite))
        return
    typer.echo(f"perplexity {found.per_token:.2f} per token, {found.per_word:.2f} per word")
    typer.echo(
        f"{found.sentences} sentences ({found.empty} empty lines left out), {found.tokens} tokens "
        f"({found.unknown} unknown), {found.words} words, log P {found.log_prob:.2f}"
    )


@app.command("mean-states")
def mean_states(
    model: Model,
    data: Data,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The means, as a safetensors file.")],
    skip: Skip = None,
    num_workers: NumWorkers = 1,
    device: Device = "cpu",
) -> None:
    """Average what a recogniser's encoder gives over a data set, for decoding.internal_lm."""
    import torch

    from s2s.data.corpus import load_corpus
    from s2s.data.dataset import SpeechDataset
    from s2s.data.loader import DataConfig, evaluation_batches
    from s2s.data.validate import drop
    from s2s.decoding.config import DecodingConfig
    from s2s.decoding.internal_lm import MeanStates
    from s2s.models.bundle import load_bundle
    from s2s.models.memory import Memory

    bundle = load_bundle(model, check_device(device))
    corpus = load_corpus(data)
    cuts, left_out = drop(corpus, [p for p in corpus.problems if p.kind != "no_text"], skip or [])
    if left_out:
        typer.echo(left_out, err=True)
    dataset = SpeechDataset(None, bundle.features, skip_bad_audio="bad_audio" in (skip or []))
    config = DataConfig(max_batch_seconds=DecodingConfig().max_batch_seconds, num_workers=num_workers)
    with torch.inference_mode(), _progress("utterances") as tell:

        def memories() -> Iterator[Memory]:
            for batch in evaluation_batches(cuts, dataset, config):
                tell(len(batch) + len(batch.skipped), len(cuts))
                if len(batch):
                    yield bundle.model.encode(batch.source.to(device), batch.source_lengths.to(device))

        MeanStates.of(memories()).save(out)
    typer.echo(f"{out}: the mean of {len(cuts)} utterances", err=True)
