"""`s2s score bleu`, `chrf` and `ter`: how good translations are."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from s2s.cli.score_options import (
    AsJson,
    CaseSensitive,
    Kaldi,
    LowerCase,
    Tokenize,
    WordOrder,
    warn_of_text,
)

if TYPE_CHECKING:
    from s2s.scoring.text_metrics import TextMetric

Reference = Annotated[str, typer.Argument(metavar="REF", help="References, a line a segment.")]
Hypothesis = Annotated[str, typer.Argument(metavar="HYP", help="Outputs, as many lines; `-` is standard input.")]
More = Annotated[list[str] | None, typer.Option("--ref", metavar="REF", help="Another reference; repeat it.")]
Sentences = Annotated[bool, typer.Option("--sentences", help="Score every segment too.")]


def bleu(
    reference: Reference,
    hypothesis: Hypothesis,
    ref: More = None,
    tokenize: Tokenize = None,
    lower_case: LowerCase = False,
    kaldi: Kaldi = False,
    sentences: Sentences = False,
    as_json: AsJson = False,
) -> None:
    """BLEU by sacrebleu, with its signature."""
    from s2s.scoring.text_metrics import TextMetric

    metric = TextMetric("bleu", lower_case, tokenize or "13a")
    _score(metric, [reference, *(ref or [])], hypothesis, kaldi, sentences, as_json)


def chrf(
    reference: Reference,
    hypothesis: Hypothesis,
    ref: More = None,
    word_order: WordOrder = None,
    lower_case: LowerCase = False,
    kaldi: Kaldi = False,
    sentences: Sentences = False,
    as_json: AsJson = False,
) -> None:
    """Character n-gram F-score (chrF, chrF++) by sacrebleu, with its signature."""
    from s2s.scoring.text_metrics import TextMetric

    metric = TextMetric("chrf", lower_case, word_order=word_order or 0)
    _score(metric, [reference, *(ref or [])], hypothesis, kaldi, sentences, as_json)


def ter(
    reference: Reference,
    hypothesis: Hypothesis,
    ref: More = None,
    case_sensitive: CaseSensitive = False,
    kaldi: Kaldi = False,
    sentences: Sentences = False,
    as_json: AsJson = False,
) -> None:
    """Translation edit rate by sacrebleu, with its signature; lower is better."""
    from s2s.scoring.text_metrics import TextMetric

    metric = TextMetric("ter", case_sensitive=case_sensitive)
    _score(metric, [reference, *(ref or [])], hypothesis, kaldi, sentences, as_json)


def _score(
    metric: TextMetric, references: list[str], hypothesis: str, kaldi: bool, sentences: bool, as_json: bool
) -> None:
    from s2s.scoring.parallel_text import read_parallel
    from s2s.scoring.text_metrics import score_text

    text = read_parallel(references, [hypothesis], kaldi)
    output = text.systems[0]
    score = score_text(metric, text.reference_texts, output.texts)
    files = [*text.references, output]
    if as_json:
        content = {
            "metric": score.name,
            "score": score.score,
            "signature": score.signature,
            **score.details,
            "segments": len(text.ids),
            "references": [lines.name for lines in text.references],
            "hypothesis": output.name,
            "empty": {lines.name: lines.empty for lines in files},
            "missing": output.missing,
            "extra": output.extra,
        }
        if sentences:
            content["sentences"] = dict(zip(text.ids, score.sentences, strict=True))
        typer.echo(json.dumps(content, ensure_ascii=False))
    else:
        if sentences:
            for each, value in zip(text.ids, score.sentences, strict=True):
                typer.echo(f"{each}\t{value:.2f}")
        typer.echo(score.line)
        empty = ", ".join(f"{lines.empty} in {lines.name}" for lines in files)
        typer.echo(f"{len(text.ids)} segments; empty: {empty}")
    warn_of_text(text, metric)
