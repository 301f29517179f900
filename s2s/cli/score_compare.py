"""`s2s score compare`: whether one system is better than another."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from s2s.cli.options import usage
from s2s.cli.score_options import (
    AsJson,
    CaseSensitive,
    Kaldi,
    LowerCase,
    Metric,
    Tokenize,
    WordOrder,
    text_metric,
    warn_of_errors,
    warn_of_text,
)
from s2s.errors import UserError

if TYPE_CHECKING:
    from s2s.scoring.word_errors import Unit


def compare(
    first: Annotated[str, typer.Argument(metavar="A", help="One system's outputs.")],
    second: Annotated[str, typer.Argument(metavar="B", help="The other's.")],
    ref: Annotated[list[str], typer.Option("--ref", metavar="REF", help="References; of BLEU, chrF, TER repeat it.")],
    metric: Metric,
    tokenize: Tokenize = None,
    word_order: WordOrder = None,
    case_sensitive: CaseSensitive = False,
    lower_case: LowerCase = False,
    kaldi: Kaldi = False,
    shuffles: Annotated[
        int | None, typer.Option(min=100, help="Random swaps of approximate randomisation; default: 10000.")
    ] = None,
    samples: Annotated[int, typer.Option(min=100, help="Resamplings of the bootstrap.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of both.")] = 12345,
    as_json: AsJson = False,
) -> None:
    """Compare two systems: scores, their difference with its interval, and whether it may be chance.

    BLEU, chrF, TER: approximate randomisation. WER, CER: matched pairs (NIST's MAPSSWE), files as for `s2s score wer`.
    """
    from s2s.scoring import comparison

    with usage():
        of_text = text_metric(metric, lower_case, tokenize, word_order, case_sensitive)
        if of_text is None and len(ref) > 1:
            raise UserError(f"--ref: {metric} has one file of references, got {len(ref)}")
        if of_text is None and shuffles is not None:
            raise UserError(f"--shuffles is for bleu, chrf and ter, not for {metric}")
    if of_text is None:
        from s2s.scoring.transcripts import read_transcripts
        from s2s.scoring.word_errors import score_words

        references = read_transcripts(ref[0])
        unit: Unit = "word" if metric == "wer" else "char"
        reports = [score_words(references, read_transcripts(path), unit, lower_case) for path in (first, second)]
        result = comparison.compare_errors(reports[0], reports[1], samples, seed)
        for path, report in zip((first, second), reports, strict=True):
            warn_of_errors(report, f" in {path}")
    else:
        from s2s.scoring.parallel_text import read_parallel

        text = read_parallel(ref, [first, second], kaldi)
        outputs = text.systems[0].texts, text.systems[1].texts
        result = comparison.compare_texts(
            of_text, text.reference_texts, outputs, shuffles or comparison.SHUFFLES, samples, seed
        )
        warn_of_text(text, of_text)
    names = (first, second)
    if as_json:
        typer.echo(json.dumps(comparison.comparison_json(result, names), ensure_ascii=False))
    else:
        typer.echo(comparison.comparison_table(result, names))
