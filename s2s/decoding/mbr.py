"""Minimum Bayes risk: the hypothesis that agrees best with all the others."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from s2s.decoding.hypothesis import Hypothesis, Search
from s2s.errors import UserError, nearest
from s2s.models.memory import Memory

Utility = Callable[[str, str], float]
UTILITIES = ("wer", "bleu", "chrf")
WEIGHTS = ("uniform", "score")


class MBRSearch:
    """Ranks the n hypotheses of `inner` by the utility they are expected to have (Kumar and Byrne 2004).

    Every text stands in for the reference as well, with a probability. With `weights` "uniform" each hypothesis has
    1/n, so that what was drawn twice counts twice: right for samples (Eikema and Aziz 2020). With "score" each distinct
    token sequence has the softmax of score / `temperature`: right for the n best of a beam. Token sequences of the same
    text, which `decode` gives, count as one with the sum of their probabilities.

    `utility` of a text against a reference: "wer" is minus the word errors (edit distance, not divided by a length),
    "bleu" sacrebleu's sentence BLEU with effective order, "chrf" its sentence chrF2, both 0 to 100. Equal texts have
    the full utility, empty ones too. It is computed m (m - 1) times for m distinct texts.

    Returns at most `nbest` hypotheses of different texts, by expected utility, then by score of `inner`, then in the
    order of `inner`. Their `score` is the expected utility; the one `inner` gave is in `scores` as "model".
    """

    def __init__(
        self,
        inner: Search,
        decode: Callable[[Sequence[int]], str],
        utility: str = "wer",
        weights: str = "uniform",
        temperature: float = 1.0,
        nbest: int = 1,
    ) -> None:
        for name, value, choices in (("utility", utility, UTILITIES), ("weights", weights, WEIGHTS)):
            if value not in choices:
                raise UserError(f"{name}={value}: expected one of {', '.join(choices)}.{nearest(value, choices)}")
        if not 0 < temperature < math.inf:
            raise UserError(f"temperature={temperature}: expected a number above 0, such as 1.0")
        if nbest < 1:
            raise UserError(f"nbest={nbest}: expected at least 1")
        self.inner, self.decode, self.nbest = inner, decode, nbest
        self.utility, self.full = _utility(utility)
        self.weights, self.temperature = weights, temperature

    def __call__(self, memory: Memory) -> list[list[Hypothesis]]:
        """The `nbest` hypotheses of each utterance with the highest expected utility, best first."""
        return [self._rank(hypotheses) for hypotheses in self.inner(memory)]

    def _rank(self, hypotheses: list[Hypothesis]) -> list[Hypothesis]:
        of_text: dict[str, list[Hypothesis]] = {}
        for hypothesis in hypotheses:
            of_text.setdefault(self.decode(hypothesis.tokens), []).append(hypothesis)
        top = max((hypothesis.score for hypothesis in hypotheses), default=0.0)
        weights = {text: self._weight(same, top) for text, same in of_text.items()}
        total = math.fsum(weights.values())
        ranked = []
        for text, same in of_text.items():
            utilities = (
                weight * (self.full if reference == text else self.utility(text, reference))
                for reference, weight in weights.items()
            )
            best = max(same, key=lambda hypothesis: hypothesis.score)
            # fsum does not depend on the order, so that what ties on paper ties here.
            expected = math.fsum(utilities) / total
            ranked.append(replace(best, score=expected, scores={**best.scores, "model": best.score}))
        ranked.sort(key=lambda hypothesis: (hypothesis.score, hypothesis.scores["model"]), reverse=True)
        return ranked[: self.nbest]

    def _weight(self, same: list[Hypothesis], top: float) -> float:
        """The probability of a text with these hypotheses, up to a factor that all texts share."""
        if self.weights == "uniform":
            return float(len(same))
        distinct = {tuple(hypothesis.tokens): hypothesis.score for hypothesis in same}
        return math.fsum(math.exp((score - top) / self.temperature) for score in distinct.values())


def _utility(name: str) -> tuple[Utility, float]:
    """The utility of a text (first) against a reference (second), and that of a text against itself."""
    if name == "wer":
        from rapidfuzz.distance import Levenshtein  # what jiwer counts with, without the alignment: 100 times faster

        return lambda text, reference: -float(Levenshtein.distance(text.split(), reference.split())), 0.0
    from sacrebleu.metrics import BLEU, CHRF

    metric = BLEU(effective_order=True) if name == "bleu" else CHRF()
    return lambda text, reference: metric.sentence_score(text, [reference]).score, 100.0
