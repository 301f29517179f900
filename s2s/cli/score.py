"""`s2s score`: how good transcripts are."""

from __future__ import annotations

from typing import Annotated

import typer

from s2s.cli.score_compare import compare
from s2s.cli.score_options import AsJson, LowerCase, warn, warn_of_errors
from s2s.cli.score_report import report
from s2s.cli.score_text import bleu, chrf, ter

app = typer.Typer(help="Score outputs against references.", no_args_is_help=True)


@app.callback()
def score() -> None:
    """Score outputs against references."""


@app.command()
def wer(
    reference: Annotated[str, typer.Argument(metavar="REF", help="References: Kaldi `text` or NIST `trn`.")],
    hypothesis: Annotated[str, typer.Argument(metavar="HYP", help="Hypotheses, the same ids; `-` is standard input.")],
    cer: Annotated[
        bool, typer.Option("--cer", help="Character error rate as well, spaces between words counted.")
    ] = False,
    lower_case: LowerCase = False,
    alignments: Annotated[
        bool, typer.Option("--alignments", help="Show every utterance aligned: words, or characters with --cer.")
    ] = False,
    as_json: AsJson = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 where a reference has no hypothesis.")] = False,
    change: Annotated[
        str | None,
        typer.Option(
            metavar="MARK",
            help="What parts the words of speakers who talk at once; their order is the best one (cpWER).",
        ),
    ] = None,
) -> None:
    """Word error rate, Kaldi style. A reference without a hypothesis counts as deleted."""
    import json

    from s2s.scoring.report import alignment_block, rate_line, report_json, sentence_line
    from s2s.scoring.talkers import by_talker
    from s2s.scoring.transcripts import read_transcripts
    from s2s.scoring.word_errors import score_words

    references, hypotheses = read_transcripts(reference), read_transcripts(hypothesis)
    if change:
        references, hypotheses = by_talker(references, hypotheses, change, lower_case)
    reports = {"wer": score_words(references, hypotheses, "word", lower_case)}
    if cer:
        reports["cer"] = score_words(references, hypotheses, "char", lower_case)
    words, finest = reports["wer"], reports["cer" if cer else "wer"]

    if as_json:
        content = {name: report_json(report, alignments) for name, report in reports.items()}
        ser = {
            "rate": words.sentence_errors / words.sentences,
            "errors": words.sentence_errors,
            "references": words.sentences,
        }
        typer.echo(
            json.dumps({**content, "ser": ser, "missing": words.missing, "extra": words.extra}, ensure_ascii=False)
        )
    else:
        if alignments:
            for utterance in finest.utterances:
                typer.echo(alignment_block(utterance) + "\n")
        for report in reports.values():
            typer.echo(rate_line(report))
        typer.echo(sentence_line(words))

    warn_of_errors(words)
    if strict and words.missing:
        raise typer.Exit(1)


app.command()(bleu)
app.command()(chrf)
app.command()(ter)
app.command()(compare)
app.command()(report)


@app.command()
def latency(
    log: Annotated[
        str, typer.Argument(metavar="LOG", help="SimulEval's `instances.log`, or events of `s2s stream`; `-`: stdin.")
    ],
    unit: Annotated[
        str, typer.Option("--unit", help="What an `instances.log` has one delay for: word, or char (no spaces).")
    ] = "word",
    as_json: AsJson = False,
) -> None:
    """Latency: AL, LAAL, AP, DAL, ATD, YAAL of simultaneous translation; of partials and finals of recognition."""
    import json

    from s2s.errors import UserError
    from s2s.scoring.instances import read_instances
    from s2s.scoring.json_lines import read_json_lines
    from s2s.scoring.latency import latency_json, latency_table, score_latency
    from s2s.scoring.streaming_events import read_stream_events, score_stream, stream_json, stream_table

    lines = read_json_lines(log)
    if "delays" in lines[0]:
        report = score_latency(read_instances(lines, unit))
        typer.echo(json.dumps(latency_json(report)) if as_json else latency_table(report))
    elif "event" in lines[0]:
        if unit != "word":
            raise UserError(f"{log}: --unit {unit} is for an instances.log; this is an event log")
        stream = score_stream(read_stream_events(lines))
        typer.echo(json.dumps(stream_json(stream), ensure_ascii=False) if as_json else stream_table(stream))
        if stream.too_fast:
            warn(stream.too_fast, "sources were fed faster than real speed: their CA figures are no latencies")
    else:
        raise UserError(
            f"{lines[0].where}: expected an instances.log (with 'delays') or an event log of s2s stream (with 'event')"
        )


@app.command()
def table(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="A recipe's exp/.../decode/TEST.")],
) -> None:
    """Error rates and real-time factors of all decodings of a test set, as a Markdown table."""
    from s2s.scoring.table import decoding_table

    typer.echo(decoding_table(folder), nl=False)
