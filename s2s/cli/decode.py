"""`s2s decode`: transcripts of a whole data set, to be scored."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from s2s.cli.jobs import Executor, Jobs
from s2s.cli.options import ConfigDir, Data, Device, Model, NumWorkers, Skip, check_device


def decode(
    model: Model,
    data: Data,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for `text` (Kaldi), `decode.json` and the rest.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE...", help="Overrides: decoding=ctc_greedy decoding.beam_size=5"),
    ] = None,
    language: Annotated[
        str | None,
        typer.Option(metavar="CODE", help="What is spoken, of a model with prompts; default: see utt2lang."),
    ] = None,
    target_language: Annotated[
        str | None,
        typer.Option(metavar="CODE", help="What to write, of a model with prompts; default: what is spoken."),
    ] = None,
    no_punctuation: Annotated[
        bool, typer.Option("--no-punctuation", help="Write no punctuation, of a model with prompts.")
    ] = False,
    config_dir: ConfigDir = None,
    skip: Skip = None,
    num_workers: NumWorkers = 1,
    device: Device = "cpu",
    jobs: Jobs = 1,
    executor: Executor = "local",
) -> None:
    """Decode a data set and write its transcripts in Kaldi's `text` format, with the real-time factor.

    Modes: decoding=joint (default), beam, greedy, ctc_greedy, ctc_prefix, rescoring, diverse, sampling or mbr, and for
    models that are made for it monotonic or segmental. Written on request: nbest.jsonl (decoding.nbest above 1), ctm
    with the times of words (decoding.token_times=true), and attention.safetensors (decoding.attention=true).

    Stopped or killed, the same command goes on with the utterances that are left. With --jobs they are shared out to
    processes, on a Ray cluster those of its machines, which must all see the same folders.
    """
    import json
    import shutil
    import time
    from dataclasses import asdict

    from rich.console import Console
    from rich.progress import Progress

    from s2s.cli.decode_job import DecodeJob, DecodeSettings, decode_share, from_record
    from s2s.cli.details import write_details
    from s2s.cli.jobs import Journal, check_executor, dealt, run_jobs, until_done
    from s2s.files import replacing
    from s2s.scoring.transcripts import write_transcripts

    check_executor(executor)
    settings = DecodeSettings(
        str(model),
        tuple(map(str, data)),
        tuple(overrides or ()),
        None if config_dir is None else str(config_dir),
        tuple(skip or ()),
        language,
        target_language,
        not no_punctuation,
        num_workers,
        check_device(device),
    )
    job = DecodeJob(settings, print)
    journal = Journal(out / f".journal-{settings.key()}")
    before = journal.read()
    if before:
        print(f"going on: {len(before)} of {len(job.cuts)} utterances were decoded before")
    seconds = sum(cut.duration for cut in job.cuts if cut.id not in before)
    console = Console(stderr=True)
    started = time.perf_counter()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("decoding", total=len(job.cuts), completed=len(before))

        def rest() -> list[list[str]]:
            return job.batches(set(journal.read()))

        def spread(left: Sequence[list[str]]) -> Sequence[str | None]:
            if jobs == 1 and executor == "local":
                job.run(list(left), journal, lambda: progress.advance(task))
                return [None]
            shares = [(settings, share, str(journal.folder.absolute())) for share in dealt(left, jobs)]
            return run_jobs(
                decode_share, shares, executor, lambda: progress.update(task, completed=len(journal.read()))
            )

        until_done(rest, spread)
    wall = time.perf_counter() - started
    found = journal.read()
    transcripts = {cut.id: from_record(found[cut.id]) for cut in job.cuts if "skipped" not in found[cut.id]}
    write_transcripts(out / "text", {utterance: transcript.text for utterance, transcript in transcripts.items()})
    write_details(out, transcripts, job.decoding)
    speed = round(wall / seconds, 4) if seconds else 0.0  # nothing was left to do
    record = {
        "model": str(model),
        "utterances": len(transcripts),
        "audio_seconds": round(sum(cut.duration for cut in job.cuts), 2),
        "wall_seconds": round(wall, 2),
        "real_time_factor": speed,
        "jobs": jobs,
        "decoding": asdict(job.decoding),
    }
    with replacing(out / "decode.json") as beside:
        beside.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    shutil.rmtree(journal.folder, ignore_errors=True)
    print(f"{out / 'text'}: {len(transcripts)} utterances, {seconds:.0f} s of audio in {wall:.1f} s, RTF {speed}")
