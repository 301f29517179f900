"""Two passes: hypotheses of a first search, scored again as wholes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from s2s.decoding.given_texts import Judge, text_log_probs
from s2s.decoding.hypothesis import NOT_A_NUMBER, Hypothesis, Search, UtteranceError
from s2s.errors import UserError
from s2s.models.memory import Memory
from s2s.nn.lengths import right_to_left

NO_HYPOTHESIS = Hypothesis([], 0.0)


@dataclass(frozen=True)
class Rescorer:
    """A decoder, a language model or an n-gram model, and the weight of its log P of a whole hypothesis, eos included.

    One that is `reverse` was trained on targets turned round, and reads the hypotheses so.
    """

    judge: Judge
    weight: float
    reverse: bool = False


class RescoringSearch:
    """Ranks the hypotheses of a `first` search anew (attention rescoring: Zhang et al. 2020, "U2", arXiv:2012.05481).

    The new score is `first_weight` times the first one + the weighted sum of the `rescorers` + `length_bonus` for every
    token but eos. A rescorer reads all hypotheses of all utterances in one call; what it gives, unweighted, joins the
    first search's own parts of the score under its name. Frames and attention stay as they were.

    Raises UserError where no rescorer has a weight other than 0, or one has the name of a part of the first score.
    """

    def __init__(
        self,
        first: Search,
        rescorers: Mapping[str, Rescorer],
        bos_id: int,
        eos_id: int,
        first_weight: float = 1.0,
        length_bonus: float = 0.0,
        nbest: int = 1,
    ) -> None:
        if nbest < 1:
            raise UserError(f"nbest={nbest}: expected at least 1")
        self.rescorers = {name: rescorer for name, rescorer in rescorers.items() if rescorer.weight != 0.0}
        if not self.rescorers:
            raise UserError("rescoring needs at least one decoder or language model whose weight is not 0")
        self.first, self.nbest = first, nbest
        self.bos_id, self.eos_id = bos_id, eos_id
        self.first_weight, self.length_bonus = first_weight, length_bonus

    @torch.inference_mode()
    def __call__(self, memory: Memory) -> list[list[Hypothesis]]:
        """The `nbest` best hypotheses of each utterance, or as many as the first search found."""
        return self.rescored(memory, self.first(memory))

    @torch.inference_mode()
    def rescored(self, memory: Memory, lists: list[list[Hypothesis]]) -> list[list[Hypothesis]]:
        """The `nbest` best of what a first search found in a memory."""
        most = max(map(len, lists), default=0)
        if not most:
            return lists
        flat = [hypothesis for found in lists for hypothesis in found + [NO_HYPOTHESIS] * (most - len(found))]
        self._check_names(flat)
        parts = self._parts(memory, [hypothesis.tokens for hypothesis in flat])  # each (B*n,)
        first = memory.states.new_tensor([hypothesis.score for hypothesis in flat], dtype=torch.float64)
        total = self.first_weight * first
        total += self.length_bonus * first.new_tensor([len(hypothesis.tokens) for hypothesis in flat])
        for name, part in parts.items():
            total += self.rescorers[name].weight * part
        broken = total.isnan().nonzero()
        if len(broken):
            number = int(broken[0]) // most
            raise UtteranceError(number, NOT_A_NUMBER)
        rows = torch.stack([*parts.values()], dim=1).tolist()
        rescored = [
            replace(hypothesis, score=score, scores={**hypothesis.scores, **dict(zip(parts, row, strict=True))})
            for hypothesis, score, row in zip(flat, total.tolist(), rows, strict=True)
        ]
        lists = [rescored[b * most : b * most + len(found)] for b, found in enumerate(lists)]
        return [sorted(found, key=lambda h: h.score, reverse=True)[: self.nbest] for found in lists]

    def _check_names(self, hypotheses: list[Hypothesis]) -> None:
        for name in self.rescorers:
            if any(name in hypothesis.scores for hypothesis in hypotheses):
                raise UserError(f"rescoring: the first search has a score named '{name}' too; give one another name")

    def _parts(self, memory: Memory, hypotheses: list[list[int]]) -> dict[str, Tensor]:
        """log P of N hypotheses, N a multiple of B, by each rescorer: each (N,) float64."""
        longest = max(map(len, hypotheses))
        rows = [tokens + [self.eos_id] * (longest - len(tokens)) for tokens in hypotheses]
        target = memory.lengths.new_tensor(rows)  # (N,U)
        lengths = memory.lengths.new_tensor([len(tokens) for tokens in hypotheses])
        parts = {}
        for name, rescorer in self.rescorers.items():
            read = right_to_left(target, lengths) if rescorer.reverse else target
            parts[name] = text_log_probs(rescorer.judge, memory, read, lengths, self.bos_id, self.eos_id)
        return parts
