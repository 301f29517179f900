"""`s2s score report`: a page of errors to look at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from s2s.cli.options import usage
from s2s.cli.score_options import (
    CaseSensitive,
    Kaldi,
    LowerCase,
    Metric,
    Tokenize,
    WordOrder,
    text_metric,
    warn,
    warn_of_errors,
    warn_of_text,
)
from s2s.errors import UserError

if TYPE_CHECKING:
    from s2s.cli.score_audio import Clip
    from s2s.scoring.comparison import Comparison
    from s2s.scoring.page_content import System
    from s2s.scoring.text_metrics import TextMetric


def report(
    reference: Annotated[str, typer.Argument(metavar="REF", help="References, as for `s2s score wer`.")],
    hypothesis: Annotated[str, typer.Argument(metavar="HYP", help="One system's outputs.")],
    second: Annotated[str | None, typer.Argument(metavar="HYP2", help="Another's, to set beside the first.")] = None,
    *,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The page, such as report.html.")],
    metric: Metric = "wer",
    title: Annotated[str | None, typer.Option(help="Heading of the page.")] = None,
    utt2spk: Annotated[Path | None, typer.Option(metavar="FILE", help="Who spoke: Kaldi `id speaker` lines.")] = None,
    audio: Annotated[
        Path | None,
        typer.Option(
            metavar="SRC", help="Recordings to play: Kaldi data directory, wav.scp, Lhotse cuts, or files named by id."
        ),
    ] = None,
    link_audio: Annotated[
        bool, typer.Option("--link-audio", help="Link to the recordings where they are, do not put them in the page.")
    ] = False,
    tokenize: Tokenize = None,
    word_order: WordOrder = None,
    case_sensitive: CaseSensitive = False,
    lower_case: LowerCase = False,
    kaldi: Kaldi = False,
) -> None:
    """One HTML file with the errors of one or two systems: by length, speaker and word, and every utterance aligned.

    It needs no network: open it in any browser.
    """
    from s2s.scoring.page import write_page
    from s2s.scoring.page_content import page_content
    from s2s.scoring.transcripts import read_speakers

    with usage():
        of_text = text_metric(metric, lower_case, tokenize, word_order, case_sensitive)
        if link_audio and audio is None:
            raise UserError("--link-audio needs --audio SRC")
        if out.is_dir():
            raise UserError(f"--out {out}: is a folder; name a file, such as report.html")
    outputs = [hypothesis] if second is None else [hypothesis, second]
    if of_text is None:
        systems, comparison = _errors(reference, outputs, metric, lower_case)
    else:
        systems, comparison = _texts(of_text, reference, outputs, kaldi)
    ids = [utterance.id for utterance in systems[0].report.utterances]
    speakers = read_speakers(utt2spk, ids) if utt2spk is not None else None
    clips = _clips(audio, ids)
    links = {name: clip.link(out) for name, clip in clips.items()} if link_audio else {}
    heading = title or " and ".join(outputs)
    content = page_content(heading, systems, speakers, comparison, links)
    size = write_page(out, content, () if link_audio else _embedded(clips, ids))
    what = f", {_bytes(size.audio)} of it audio of {size.clips} utterances" if size.clips else ""
    typer.echo(f"{out}: {len(ids)} utterances, {_bytes(size.total)}{what}")


def _errors(
    reference: str, outputs: list[str], metric: str, lower_case: bool
) -> tuple[list[System], Comparison | None]:
    from s2s.scoring.comparison import compare_errors
    from s2s.scoring.page_content import error_system
    from s2s.scoring.transcripts import read_transcripts
    from s2s.scoring.word_errors import score_words

    references = read_transcripts(reference)
    reports = [
        score_words(references, read_transcripts(path), "word" if metric == "wer" else "char", lower_case)
        for path in outputs
    ]
    for path, each in zip(outputs, reports, strict=True):
        warn_of_errors(each, f" in {path}")
    comparison = compare_errors(reports[0], reports[1]) if len(reports) == 2 else None
    return [error_system(path, each) for path, each in zip(outputs, reports, strict=True)], comparison


def _texts(
    metric: TextMetric, reference: str, outputs: list[str], kaldi: bool
) -> tuple[list[System], Comparison | None]:
    from s2s.scoring.comparison import compare_texts
    from s2s.scoring.page_content import text_system
    from s2s.scoring.parallel_text import read_parallel

    text = read_parallel([reference], outputs, kaldi)
    warn_of_text(text, metric)
    texts = [lines.texts for lines in text.systems]
    comparison = compare_texts(metric, text.reference_texts, (texts[0], texts[1])) if len(texts) == 2 else None
    references = text.references[0].texts
    systems = [text_system(lines.name, metric, text.ids, references, lines.texts) for lines in text.systems]
    return systems, comparison


def _clips(audio: Path | None, ids: list[str]) -> dict[str, Clip]:
    if audio is None:
        return {}
    from s2s.cli.score_audio import find_clips

    clips = find_clips(audio, ids)
    warn(tuple(name for name in ids if name not in clips), f"of {len(ids)} utterances have no audio in {audio}")
    return clips


def _embedded(clips: dict[str, Clip], ids: list[str]) -> Iterator[tuple[int, bytes]]:
    for place, name in enumerate(ids):
        if name in clips:
            yield place, clips[name].flac()


def _bytes(count: int) -> str:
    return f"{count / 1e3:.0f} kB" if count < 1e6 else f"{count / 1e6:.1f} MB"
