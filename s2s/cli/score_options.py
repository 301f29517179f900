"""What several of the `s2s score` commands have: options, and warnings about ids."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, cast

import typer

from s2s.errors import UserError, nearest

if TYPE_CHECKING:
    from s2s.scoring.parallel_text import ParallelText
    from s2s.scoring.text_metrics import TextMetric, TextMetricName
    from s2s.scoring.word_errors import ErrorReport

Metric = Annotated[str, typer.Option("--metric", metavar="NAME", help="bleu, chrf, ter, wer or cer.")]
LowerCase = Annotated[bool, typer.Option("--lower-case", "--lowercase", help="Compare lower-cased texts.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object in place of the lines.")]
Kaldi = Annotated[
    bool, typer.Option("--kaldi", help="Files with utterance ids, Kaldi `text` or NIST `trn`, matched by id.")
]
Tokenize = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="BLEU: sacrebleu's 13a (default), intl, char, zh, ja-mecab, ...; none for tokenised text."
    ),
]
WordOrder = Annotated[int | None, typer.Option(min=0, max=6, help="chrF: longest n-gram of words; 2 is chrF++.")]
CaseSensitive = Annotated[bool, typer.Option("--case-sensitive", help="TER: keep the case, which sacrebleu lowers.")]


METRICS = ("bleu", "chrf", "ter", "wer", "cer")


def text_metric(
    name: str,
    lower_case: bool = False,
    tokenize: str | None = None,
    word_order: int | None = None,
    case_sensitive: bool = False,
) -> TextMetric | None:
    """BLEU, chrF or TER with these options, None for an error rate; UserError for an option that it does not have."""
    from s2s.scoring.text_metrics import TextMetric

    if name not in METRICS:
        raise UserError(f"--metric {name}: expected one of {', '.join(METRICS)}.{nearest(name, METRICS)}")
    for option, given, names in (
        ("--tokenize", tokenize is not None, ("bleu",)),
        ("--word-order", word_order is not None, ("chrf",)),
        ("--case-sensitive", case_sensitive, ("ter",)),
    ):
        if given and name not in names:
            raise UserError(f"{option} is for {' and '.join(names)}, not for {name}")
    if lower_case and name == "ter":
        raise UserError("--lower-case: TER is lower-cased unless --case-sensitive is given")
    if name in ("wer", "cer"):
        return None
    return TextMetric(cast("TextMetricName", name), lower_case, tokenize or "13a", word_order or 0, case_sensitive)


def warn_of_text(text: ParallelText, metric: TextMetric) -> None:
    """Say which outputs lack utterances or have others, and, of BLEU, which look tokenised."""
    for system in text.systems:
        warn(system.missing, f"of {len(text.ids)} references have no hypothesis in {system.name} and count as empty")
        hypotheses = len(text.ids) - len(system.missing) + len(system.extra)
        warn(system.extra, f"of {hypotheses} hypotheses in {system.name} have no reference and are not counted")
        ends = tuple(each for each, line in zip(text.ids, system.texts, strict=True) if line.endswith(" ."))
        if metric.name == "bleu" and metric.tokenize != "none" and 10 * len(ends) > len(text.ids):
            warn(ends, f"segments of {system.name} end in ' .', as if tokenised: give plain text, or --tokenize none")


def warn_of_errors(report: ErrorReport, where: str = "") -> None:
    """Say which references have no hypothesis, and which hypotheses no reference."""
    warn(report.missing, f"of {report.sentences} references have no hypothesis{where} and count as deleted")
    hypotheses = report.sentences - len(report.missing) + len(report.extra)
    warn(report.extra, f"of {hypotheses} hypotheses{where} have no reference and are not counted")


def warn(ids: tuple[str, ...], what: str) -> None:
    """One line on standard error with the first ids; nothing where there are none."""
    if ids:
        shown = ", ".join(ids[:5]) + (", ..." if len(ids) > 5 else "")
        typer.echo(f"s2s: warning: {len(ids)} {what}: {shown}", err=True)
