"""SimulEval's and OmniSTEval's latency of the logs beside this file, to `scores.json`.

Run it in an environment that has both: pip install simuleval==1.1.4 omnisteval==0.1.10; python simuleval_scores.py
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

from simuleval.evaluator.instance import LogInstance, TextInputInstance
from simuleval.evaluator.scorers.latency_scorer import LATENCY_SCORERS_DICT

FOLDER = Path(__file__).parent


class TextLogInstance(LogInstance, TextInputInstance):
    """A log of text for what it is; SimulEval takes every log for one of speech, which makes ATD 0 for text."""

    prediction = prediction_length = source_length = None  # in place of properties


def simuleval_scores(lines: list[str], unit: str, text: bool, aware: bool) -> dict[str, float]:
    """Every measure of SimulEval over the lines of a log, unrounded."""
    instances = [(TextLogInstance if text else LogInstance)(line, unit) for line in lines]
    names = ("AL", "LAAL", "AP", "DAL", "ATD")
    return {name: LATENCY_SCORERS_DICT[name](computation_aware=aware)(dict(enumerate(instances))) for name in names}


def omnisteval_yaal(lines: list[str], unit: str, aware: bool) -> float:
    """OmniSTEval's short-form YAAL over the lines of a log, with the length of the reference that SimulEval takes."""
    from omnisteval.scoring import YAALScorer

    instances = []
    for index, line in enumerate(lines):
        content = json.loads(line)
        reference = LogInstance(line, unit).reference_length
        times = {"emission_cu": content["delays"], "emission_ca": content["elapsed"]}
        length = content["source_length"]
        instances.append(
            SimpleNamespace(
                index=index,
                reference="",
                reference_length=reference,
                source_length=length,
                longform=None,
                time_to_recording_end=None,
                **times,
            )
        )
    return float(YAALScorer(computation_aware=aware)(instances))


if __name__ == "__main__":
    scores = {}
    for name, unit in (("speech", "word"), ("text", "word"), ("char", "char")):
        lines = (FOLDER / f"{name}.log").read_text(encoding="utf-8").splitlines()
        scores[name] = {}
        for suffix, aware in (("", False), ("_CA", True)):
            if name == "speech" or not aware:
                found = simuleval_scores(lines, unit, name != "speech", aware)
                found["YAAL"] = omnisteval_yaal(lines, unit, aware)
                scores[name] |= {key + suffix: value for key, value in found.items()}
    (FOLDER / "scores.json").write_text(json.dumps(scores, indent=1) + "\n")
