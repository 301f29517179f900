"""`s2s data`: look at a corpus, check it, convert it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

CHANGE = "‖"  # one character, so that any tokenizer learns it as a piece
app = typer.Typer(
    help="Check, describe and convert corpora: Kaldi data directories, Lhotse cuts and Lhotse Shar.",
    no_args_is_help=True,
)

Data = Annotated[
    list[Path],
    typer.Argument(metavar="DATA...", help="Kaldi data directories, Lhotse cuts (.jsonl.gz) or shar:DIR, joined."),
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
def stats_command(
    data: Data,
    tokenizer: TokenizerFolder = None,
    buckets: Annotated[
        bool, typer.Option("--buckets", help="How much of the batches of a training would be padding, by sampler.")
    ] = False,
    pair: Annotated[
        str | None, typer.Option(metavar="PAIR", help="DATA are folders of parallel text, and this is of them: en-de.")
    ] = None,
    max_batch: Annotated[
        float | None,
        typer.Option(metavar="SIZE", min=0.1, help="Seconds in a batch (200), or tokens with --pair (4000)."),
    ] = None,
    num_buckets: Annotated[int, typer.Option(min=1, help="Ranges of source length.")] = 16,
    num_target_buckets: Annotated[int, typer.Option(min=1, help="Ranges of target length in each of them.")] = 8,
    draw: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the batches, as a PNG.")] = None,
) -> None:
    """Describe a corpus: hours, speakers, durations, lengths of texts; with --buckets, the padding of its batches.

    Example: s2s data stats --buckets data/train --tokenizer data/tokenizer --max-batch 20 --draw padding.png
    """
    import sys

    from rich.console import Console

    from s2s.data.buckets import budget
    from s2s.data.corpus import load_corpus
    from s2s.data.cuts import text
    from s2s.data.padding import draw_padding, padding_table, sampled_batches
    from s2s.data.parallel import Direction, read_parallel
    from s2s.data.problems import counts
    from s2s.data.statistics import corpus_statistics, tables
    from s2s.data.text_batches import TokenPairs
    from s2s.errors import UserError
    from s2s.models.translation_bundle import TranslationTokenizer
    from s2s.tokenizers.load import load_tokenizer

    if not buckets and (pair or draw or max_batch):
        raise UserError("--pair, --draw and --max-batch are for --buckets; give it too")
    if buckets and tokenizer is None:
        raise UserError("--buckets: needs the tokenizer of the training, for the lengths of targets; give --tokenizer")
    loaded = load_tokenizer(tokenizer) if tokenizer else None
    if pair:
        if not isinstance(loaded, TranslationTokenizer):
            raise UserError(f"--tokenizer {tokenizer}: is of one side; --pair {pair} needs that of a translation")
        sentences, _ = read_parallel(list(map(str, data)), [Direction.of(pair)])
        pairs = TokenPairs.of(sentences, loaded)
        lengths = dict(zip(map(str, range(len(pairs))), pairs.lengths(), strict=True))
        size = budget(max_batch or 4000, None)
    else:
        corpus = load_corpus(data)
        if not buckets:
            Console().print(tables(corpus_statistics(corpus.cuts, loaded)))
        if corpus.problems:
            print(f"s2s: problems: {counts(corpus.problems)}; `s2s data validate` lists them", file=sys.stderr)
        if not buckets or loaded is None:
            return
        lengths = {cut.id: (cut.duration, len(loaded.encode(text(cut) or ""))) for cut in corpus.cuts}
        size = budget(max_batch or 200, None, lambda seconds, tokens: seconds)
    batches = sampled_batches(lengths, size, num_buckets, num_target_buckets)
    Console().print(padding_table(batches, lengths))
    if draw is not None:
        draw_padding(draw, batches, lengths, "tokens" if pair else "seconds")


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


@app.command("shar")
def shar_command(
    source: Annotated[
        list[str], typer.Argument(metavar="SRC...", help="Kaldi data directories or Lhotse cuts, joined.")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="New folder of shards.")],
    shard_size: Annotated[int, typer.Option(min=1, help="Utterances in a shard.")] = 1000,
    skip: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND", help="Leave out utterances with this kind of problem; repeat it."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the order: utterances are spread over the shards by chance.")] = 1,
) -> None:
    """Write a corpus as Lhotse Shar: tar files of FLAC to be read from one end to the other, from any kind of storage.

    To train on it: s2s train data.train=[shar:DIR]
    """
    import random

    from rich.console import Console
    from rich.progress import Progress

    from s2s.data.corpus import load_corpus
    from s2s.data.shar import PREFIX, write_shar
    from s2s.data.validate import drop
    from s2s.errors import UserError

    if out.exists():
        raise UserError(f"{out}: there already; remove it or name another")
    corpus = load_corpus(source)
    kept = {"no_text"} - set(skip or [])
    cuts, note = drop(corpus, [problem for problem in corpus.problems if problem.kind not in kept], skip or [])
    shuffled = list(cuts)
    random.Random(seed).shuffle(shuffled)
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("writing", total=len(shuffled))
        shards = write_shar(shuffled, out, shard_size, lambda: progress.advance(task))
    print(note or f"{len(shuffled)} utterances in {shards} shards: data.train=[{PREFIX}{out}]")


@app.command("overlap")
def overlap_command(
    data: Data,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Lhotse cuts to write (.jsonl.gz).")],
    speakers: Annotated[int, typer.Option(min=2, max=6, help="How many talk at once.")] = 2,
    least_delay: Annotated[
        float, typer.Option(min=0.0, metavar="SECONDS", help="A speaker begins at least so long after the one before.")
    ] = 0.5,
    change: Annotated[
        str, typer.Option(metavar="MARK", help="What stands between the words of two speakers.")
    ] = CHANGE,
    seed: Annotated[int, typer.Option(help="Who talks with whom, and when.")] = 1,
) -> None:
    """Mix utterances of different speakers, who talk at once; their texts in the order in which they begin.

    No audio is written: it is mixed where the cuts are read. A model trained on them writes serialised output;
    `s2s score wer --change MARK` scores it.
    """
    from s2s.data.corpus import is_cuts_file, load_corpus
    from s2s.data.jsonl import write_cuts
    from s2s.data.overlap import overlapped
    from s2s.errors import UserError

    if not is_cuts_file(out):
        raise UserError(f"--out {out}: expected a name in .jsonl.gz")
    if out.exists():
        raise UserError(f"{out}: there already; remove it or name another")
    if not change.strip() or " " in change.strip():
        raise UserError(f"--change '{change}': expected a word of its own, such as {CHANGE}")
    mixed = overlapped(load_corpus(data).cuts, speakers, seed, least_delay, change.strip())
    write_cuts(mixed, out)
    print(f"{len(mixed)} mixtures, {sum(cut.duration for cut in mixed) / 3600:.2f} hours: {out}")
