"""`s2s data`: look at a corpus, check it, convert it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Check, describe and convert corpora: Kaldi data directories and Lhotse cuts.", no_args_is_help=True
)

Data = Annotated[
    list[Path], typer.Argument(metavar="DATA...", help="Kaldi data directories or Lhotse cuts (.jsonl.gz), joined.")
]
TokenizerFolder = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Tokenizer to count the tokens of texts with.")
]


@app.command("validate")
def validate_command(
    data: Data,
    skip_audio: Annotated[
        bool, typer.Option("--skip-audio", help="Read the headers of audio files only, not their samples.")
    ] = False,
    tokenizer: TokenizerFolder = None,
    frames_per_second: Annotated[
        float, typer.Option(min=0.1, help="Encoder frames a second, for texts too long for CTC; needs --tokenizer.")
    ] = 25.0,
    sampling_rate: Annotated[
        int | None, typer.Option(min=1, metavar="HZ", help="Rate every recording should have; any if not given.")
    ] = None,
) -> None:
    """List everything wrong with a corpus, each with its file and line; exit code 1 where there is anything."""
    from rich.console import Console
    from rich.progress import Progress

    from s2s.data.corpus import load_corpus
    from s2s.data.problems import counts
    from s2s.data.validate import ctc_problems, decodable_files, validate
    from s2s.tokenizers.load import load_tokenizer

    loaded = load_tokenizer(tokenizer) if tokenizer else None
    corpus = load_corpus(data)
    with Progress(console=Console(stderr=True), transient=True, disable=skip_audio) as progress:
        task = progress.add_task("decoding audio", total=0 if skip_audio else len(decodable_files(corpus.cuts)))
        problems = validate(corpus, not skip_audio, sampling_rate=sampling_rate, advance=lambda: progress.advance(task))
    if loaded is not None:
        problems += ctc_problems(corpus.cuts, loaded, lambda seconds: int(seconds * frames_per_second))
    for problem in problems:
        print(problem)
    if problems:
        print(f"{len(problems)} problems: {counts(problems)}")
        raise typer.Exit(1)
    print(f"{len(corpus.cuts)} utterances, {sum(cut.duration for cut in corpus.cuts) / 3600:.2f} hours, no problems")


@app.command("stats")
def stats_command(data: Data, tokenizer: TokenizerFolder = None) -> None:
    """Describe a corpus: hours, speakers, durations, lengths of texts."""
    import sys

    from rich.console import Console

    from s2s.data.corpus import load_corpus
    from s2s.data.problems import counts
    from s2s.data.statistics import corpus_statistics, tables
    from s2s.tokenizers.load import load_tokenizer

    loaded = load_tokenizer(tokenizer) if tokenizer else None
    corpus = load_corpus(data)
    Console().print(tables(corpus_statistics(corpus.cuts, loaded)))
    if corpus.problems:
        print(f"s2s: problems: {counts(corpus.problems)}; `s2s data validate` lists them", file=sys.stderr)


@app.command("convert")
def convert_command(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Kaldi data directory or Lhotse cuts (.jsonl.gz).")],
    target: Annotated[Path, typer.Argument(metavar="DST", help="The other of the two; a .jsonl.gz name makes cuts.")],
    skip: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND", help="Leave out utterances with this kind of problem; repeat it."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite DST.")] = False,
) -> None:
    """Convert a Kaldi data directory to Lhotse cuts, or the other way; the audio stays where it is."""
    from s2s.data.corpus import is_cuts_file, load_corpus
    from s2s.data.jsonl import write_cuts
    from s2s.data.kaldi import write_kaldi
    from s2s.data.validate import drop
    from s2s.errors import UserError

    to_cuts = is_cuts_file(target)
    if to_cuts == is_cuts_file(source):
        raise UserError(
            f"{source} -> {target}: expected a Kaldi data directory and a name in .jsonl.gz, either way round"
        )
    if target.exists() and not force:
        raise UserError(f"{target}: there already; --force overwrites it")
    corpus = load_corpus(source)
    kept = {"no_text"} - set(skip or [])  # both formats can do without
    cuts, note = drop(corpus, [problem for problem in corpus.problems if problem.kind not in kept], skip or [])
    (write_cuts if to_cuts else write_kaldi)(cuts, target)
    print(note or f"{len(cuts)} utterances: {source} -> {target}")
