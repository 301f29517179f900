"""`s2s align`: when each word of a data set's transcripts was said."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from s2s.cli.options import Data, Device, Model, NumWorkers, Skip, check_device


def align(
    model: Model,
    data: Data,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Words with times to write, in NIST's CTM format.")
    ] = None,
    ends: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="When each token ends, to write as JSON lines for data.alignments."),
    ] = None,
    skip: Skip = None,
    max_batch_seconds: Annotated[float, typer.Option(min=1.0, help="Audio encoded at once, padding counted.")] = 120.0,
    num_workers: NumWorkers = 1,
    device: Device = "cpu",
) -> None:
    """Align transcripts with the audio by the model's CTC output, and write the time of each word.

    CTC decides late and briefly: a word is where the model heard its tokens, which is less than its whole sound. A
    segmental model aligns by its best segments instead, which have no gaps between them. From --ends another one learns
    where its segments end.
    """
    from rich.console import Console
    from rich.progress import Progress

    from s2s.api import load_hybrid
    from s2s.cli.details import write_ctm
    from s2s.data.alignments import TokenEnds, write_token_ends
    from s2s.data.corpus import load_corpus
    from s2s.data.dataset import SpeechDataset
    from s2s.data.loader import DataConfig, evaluation_batches
    from s2s.data.validate import drop, validate
    from s2s.errors import UserError
    from s2s.transcription.hybrid import Aligned

    if out is None and ends is None:
        raise UserError("nothing to write: give --out FILE for the words, --ends FILE for the tokens, or both")
    transcriber = load_hybrid(model, device=check_device(device))
    corpus = load_corpus(data)
    cuts, left_out = drop(corpus, validate(corpus, read_audio=False, require_text=True), skip or [])
    if left_out:
        print(left_out)
    bundle = transcriber.bundle
    dataset = SpeechDataset(bundle.tokenizer, bundle.features, skip_bad_audio="bad_audio" in (skip or []))
    config = DataConfig(max_batch_seconds=max_batch_seconds, num_workers=num_workers)
    aligned: dict[str, Aligned] = {}
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("aligning", total=len(cuts))
        for batch in evaluation_batches(cuts, dataset, config):
            for utterance in batch.skipped:
                print(f"skipped, its audio cannot be read: {utterance}")
            aligned.update(transcriber.align_batch(batch))
            progress.advance(task, len(batch) + len(batch.skipped))
    found = {cut.id: aligned[cut.id] for cut in cuts if cut.id in aligned}
    if out is not None:
        write_ctm(out, {name: each.words for name, each in found.items()})
        print(f"{out}: {sum(len(each.words) for each in found.values())} words of {len(found)} utterances")
    if ends is not None:
        write_token_ends(ends, {name: TokenEnds(each.pieces, each.ends) for name, each in found.items()})
        print(f"{ends}: {sum(len(each.ends) for each in found.values())} tokens of {len(found)} utterances")
