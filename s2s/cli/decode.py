"""`s2s decode`: transcripts of a whole data set, to be scored."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from s2s.cli.options import ConfigDir, Data, Device, Model, NumWorkers, Skip, check_device


def decode(
    model: Model,
    data: Data,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for `text` (Kaldi), `decode.json` and the rest.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE...", help="Overrides: decoding=ctc_greedy decoding.beam_size=5"),
    ] = None,
    config_dir: ConfigDir = None,
    skip: Skip = None,
    num_workers: NumWorkers = 1,
    device: Device = "cpu",
) -> None:
    """Decode a data set and write its transcripts in Kaldi's `text` format, with the real-time factor.

    Modes: decoding=joint (default), beam, greedy, ctc_greedy, ctc_prefix, rescoring, diverse, sampling or mbr, and for
    models that are made for it monotonic or segmental. Written on request: nbest.jsonl (decoding.nbest above 1), ctm
    with the times of words (decoding.token_times=true), and attention.safetensors (decoding.attention=true).
    """
    import json
    import time
    from dataclasses import asdict

    from rich.console import Console
    from rich.progress import Progress

    from s2s.api import load_hybrid
    from s2s.cli.details import write_details
    from s2s.data.batch import Batch
    from s2s.data.corpus import load_corpus
    from s2s.data.dataset import SpeechDataset
    from s2s.data.loader import DataConfig, evaluation_batches
    from s2s.data.validate import drop
    from s2s.decoding.config import load_decoding_config
    from s2s.files import replacing
    from s2s.scoring.transcripts import write_transcripts
    from s2s.transcription.transcript import Transcript

    decoding = load_decoding_config(overrides or [], config_dir)
    transcriber = load_hybrid(model, decoding, check_device(device))
    corpus = load_corpus(data)
    cuts, left_out = drop(corpus, [p for p in corpus.problems if p.kind != "no_text"], skip or [])
    if left_out:
        print(left_out)
    dataset = SpeechDataset(None, transcriber.bundle.features, skip_bad_audio="bad_audio" in (skip or []))
    config = DataConfig(max_batch_seconds=decoding.max_batch_seconds, num_workers=num_workers)
    seconds = sum(cut.duration for cut in cuts)
    found: dict[str, Transcript] = {}
    console = Console(stderr=True)
    started = time.perf_counter()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("decoding", total=len(cuts))

        def batches() -> Iterator[Batch]:
            for batch in evaluation_batches(cuts, dataset, config):
                for utterance in batch.skipped:
                    print(f"skipped, its audio cannot be read: {utterance}")
                progress.advance(task, len(batch.skipped))
                yield batch

        for utterance, transcript in transcriber.transcribe_batches(batches()):
            found[utterance] = transcript
            progress.advance(task)
    wall = time.perf_counter() - started
    transcripts = {cut.id: found[cut.id] for cut in cuts if cut.id in found}
    write_transcripts(out / "text", {utterance: transcript.text for utterance, transcript in transcripts.items()})
    write_details(out, transcripts, decoding)
    record = {
        "model": str(model),
        "utterances": len(transcripts),
        "audio_seconds": round(seconds, 2),
        "wall_seconds": round(wall, 2),
        "real_time_factor": round(wall / seconds, 4),
        "decoding": asdict(decoding),
    }
    with replacing(out / "decode.json") as beside:
        beside.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    speed = f"{seconds:.0f} s of audio in {wall:.1f} s, RTF {wall / seconds:.4f}"
    print(f"{out / 'text'}: {len(transcripts)} utterances, {speed}")
