"""CTC prefix beam search: every utterance and prefix at once, one frame after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from s2s.decoding.hypothesis import NOT_A_NUMBER, Hypothesis, UtteranceError
from s2s.decoding.scorers import CandidateScorer, Scorer
from s2s.errors import UserError
from s2s.models.ctc import CTC
from s2s.models.memory import Memory
from s2s.nn.lengths import valid_mask

NEVER = float("-inf")
NO_TOKEN = -1
NO_PARENT, DEAD = -1, -2  # in place of a hash
MULTIPLIER = 6364136223846793005  # of Knuth's MMIX generator


@dataclass(frozen=True)
class _Emissions:
    """Log-probabilities of the frames; past an utterance's end a blank is certain, which leaves its beam as it is."""

    blank: Tensor  # (T,B,1)
    labels: Tensor  # (T,B,V), -inf for the blank and the forbidden ids
    tokens: Tensor  # (T,B,1+C) NO_TOKEN, then the C best tokens of each frame
    scores: Tensor  # (T,B,1+C) those of `tokens`


@dataclass
class _Beam:
    """K different prefixes of each of B utterances, and the log-probability of the frames so far for each.

    Prefixes are compared by a rolling hash of 64 bits. Where there are fewer than K, the others are DEAD, with -inf.
    """

    blank_ends: Tensor  # (B,K) all alignments whose last frame is a blank
    label_ends: Tensor  # (B,K) those whose last frame is the last token
    total: Tensor  # (B,K) both
    last: Tensor  # (B,K) last tokens, the blank of the empty prefix
    hashes: Tensor  # (B,K)
    parent_hashes: Tensor  # (B,K) of the prefix without its last token, NO_PARENT of the empty one


class CTCPrefixBeamSearch:
    """Keeps the `beam_size` best label sequences, all alignments of one summed, and extends them frame by frame.

    The search of Graves 2012 ("Supervised Sequence Labelling", section 7.5) and Hannun et al. 2014 (arXiv:1408.2873,
    algorithm 1), in float64. A hypothesis' score is log P_CTC(tokens) + the weighted sum of its scorers over tokens and
    eos; P_CTC lacks the alignments that left the beam. blank, bos, eos and `forbidden_ids` are never among the tokens.

    Without scorers the `beam_size` + 1 best tokens of each frame are considered, which loses nothing: for any other
    token a prefix has `beam_size` better extensions. With scorers it is the `num_candidates` best tokens that they
    choose from, None for the whole vocabulary. Raises UserError for values out of range.
    """

    def __init__(
        self,
        ctc: CTC,
        bos_id: int,
        eos_id: int,
        beam_size: int = 10,
        nbest: int = 1,
        scorers: Mapping[str, tuple[Scorer | CandidateScorer, float]] | None = None,
        num_candidates: int | None = 20,
        forbidden_ids: Sequence[int] = (),
    ) -> None:
        if beam_size < 1:
            raise UserError(f"beam_size={beam_size}: expected 1 or more")
        if not 1 <= nbest <= beam_size:
            raise UserError(f"nbest={nbest}: expected 1 to beam_size={beam_size}")
        if num_candidates is not None and num_candidates < 1:
            raise UserError(f"num_candidates={num_candidates}: expected 1 or more, or none for the whole vocabulary")
        self.ctc, self.bos_id, self.eos_id = ctc, bos_id, eos_id
        self.beam_size, self.nbest = beam_size, nbest
        self.scorers = {name: scorer for name, scorer in (scorers or {}).items() if scorer[1] != 0.0}
        if "ctc" in self.scorers:
            raise UserError("scorers: 'ctc' is the name of the search's own score; give this scorer another name")
        self.num_candidates = num_candidates if self.scorers else beam_size + 1
        self.forbidden_ids = sorted({ctc.blank_id, bos_id, eos_id, *forbidden_ids})

    @torch.inference_mode()
    def __call__(self, memory: Memory) -> list[list[Hypothesis]]:
        """The `nbest` best hypotheses of each utterance, best first. Raises UserError where the output is NaN."""
        emissions = self._emissions(memory)
        beam = self._start(memory)
        fusion = _Fusion(self.scorers, memory, self.beam_size, self.bos_id)
        parents, tokens = [], []  # of each frame, (B,K)
        for frame in zip(emissions.blank, emissions.labels, emissions.tokens, emissions.scores, strict=True):
            parent, token = self._advance(beam, fusion, *frame)
            parents.append(parent)
            tokens.append(token)
        scores, sums = beam.total, beam.total.unsqueeze(0)
        if self.scorers:
            ended = fusion.sums_with(beam.last.new_full((beam.last.size(0), 1), self.eos_id))
            scores = scores + fusion.weigh(ended)[..., 1]
            sums = torch.cat((sums, ended[..., 1]))  # (1+S,B,K)
        scores, rows = scores.topk(self.nbest, dim=-1)
        sums = sums.gather(2, rows.expand(len(sums), -1, -1))
        return self._hypotheses(scores, sums, _trace_back(rows, parents, tokens))

    def _emissions(self, memory: Memory) -> _Emissions:
        size = int(memory.lengths.max())
        log_probs = self.ctc(memory)[:, :size]
        valid = valid_mask(memory.lengths, size)
        blank = log_probs[..., self.ctc.blank_id].masked_fill(~valid, 0.0)  # (B,T)
        broken = blank.isnan().any(dim=1)  # log_softmax spreads a NaN over its frame
        if broken.any():
            raise UtteranceError(int(broken.nonzero()[0]), NOT_A_NUMBER)
        labels = log_probs.masked_fill(~valid.unsqueeze(-1), NEVER)
        labels[..., self.forbidden_ids] = NEVER
        num_allowed = labels.size(-1) - len(self.forbidden_ids)
        best = labels.topk(min(self.num_candidates or num_allowed, num_allowed), dim=-1)
        return _Emissions(
            blank=blank.t().unsqueeze(-1),
            labels=labels.transpose(0, 1),
            tokens=F.pad(best.indices, (1, 0), value=NO_TOKEN).transpose(0, 1).contiguous(),
            scores=F.pad(best.values, (1, 0)).transpose(0, 1).contiguous(),
        )

    def _start(self, memory: Memory) -> _Beam:
        """One empty prefix an utterance, as after a blank."""
        blank_ends = memory.states.new_full((memory.states.size(0), self.beam_size), NEVER, dtype=torch.float64)
        blank_ends[:, 0] = 0.0
        none = torch.zeros_like(blank_ends, dtype=torch.long)
        label_ends = torch.full_like(blank_ends, NEVER)
        return _Beam(blank_ends, label_ends, blank_ends, none + self.ctc.blank_id, none, none + NO_PARENT)

    def _advance(
        self, beam: _Beam, fusion: _Fusion, blank: Tensor, labels: Tensor, tokens: Tensor, scores: Tensor
    ) -> tuple[Tensor, Tensor]:
        """One frame: blank (B,1), labels (B,V), tokens and scores (B,1+C).

        The beam becomes the best of its prefixes and their extensions. Returns the parent of each (B,K) and the token
        it is longer by (B,K), or NO_TOKEN.
        """
        # A token that repeats the last one is a new one only after a blank.
        after_blank, after_any = beam.blank_ends.unsqueeze(2), beam.total.unsqueeze(2)  # (B,K,1)
        last = beam.last.unsqueeze(2)
        repeats = tokens.unsqueeze(1) == last  # (B,K,1+C)
        extended = torch.where(repeats, after_blank, after_any) + scores.unsqueeze(1)

        # Where prefix j is prefix i and one token more, that extension of i is not a new prefix, but part of j.
        extends = beam.hashes.unsqueeze(2) == beam.parent_hashes.unsqueeze(1)  # (B,K of i,K of j)
        entering = torch.where(last == beam.last.unsqueeze(1), after_blank, after_any)
        entering = entering.masked_fill_(~extends, NEVER).amax(dim=1)  # (B,K of j)
        pool = extended.flatten(1)  # (B,K*(1+C))
        pool.scatter_(1, _merged(extends, repeats), NEVER)

        label_ends = torch.logaddexp(beam.label_ends, entering) + labels.gather(1, beam.last)
        blank_ends = beam.total + blank
        pool[:, :: tokens.size(1)] = torch.logaddexp(label_ends, blank_ends)  # no token more

        ranked = pool
        if self.scorers:
            ranked = pool + fusion.weigh(fusion.sums_with(tokens[:, 1:])).flatten(1)
        ranks, chosen = ranked.topk(self.beam_size, dim=-1)  # (B,K)
        parents, choices = chosen // tokens.size(1), chosen % tokens.size(1)
        token = tokens.gather(1, choices)
        grew = choices > 0
        dead = ranks == NEVER
        if self.scorers:
            fusion.select(chosen, parents, token.masked_fill(dead, NO_TOKEN))

        beam.total = pool.gather(1, chosen)
        beam.blank_ends = blank_ends.gather(1, parents).masked_fill_(grew, NEVER)
        beam.label_ends = torch.where(grew, beam.total, label_ends.gather(1, parents))
        beam.last = torch.where(grew, token, beam.last.gather(1, parents))
        hashes = beam.hashes.gather(1, parents)
        parent_hashes = torch.where(grew, hashes, beam.parent_hashes.gather(1, parents))
        hashes = torch.where(grew, hashes * MULTIPLIER + (token + 1), hashes)
        # What stands for nothing may be a copy of a merged prefix: it must be nobody's parent or child.
        beam.hashes = hashes.masked_fill_(dead, DEAD)
        beam.parent_hashes = parent_hashes.masked_fill_(dead, NO_PARENT)
        return parents, token

    def _hypotheses(self, scores: Tensor, sums: Tensor, tokens: list[list[list[int]]]) -> list[list[Hypothesis]]:
        """scores (B,nbest), sums (1+S,B,nbest), tokens of each -> hypotheses"""
        names = ["ctc", *self.scorers]
        parts = sums.permute(1, 2, 0).tolist()
        found = [
            [
                Hypothesis(tokens[b][k], score, dict(zip(names, parts[b][k], strict=True)))
                for k, score in enumerate(best)
                if score > NEVER
            ]
            for b, best in enumerate(scores.tolist())
        ]
        for b, hypotheses in enumerate(found):
            if not hypotheses:
                raise UtteranceError(
                    b,
                    f"no hypothesis has a finite score: {', '.join(names)} forbid all that came into the beam, or give "
                    "no number; check them, or raise beam_size",
                )
        return found


class _Fusion:
    """S scorers at work on one batch; a row's scores hold until its prefix grows."""

    def __init__(
        self,
        scorers: Mapping[str, tuple[Scorer | CandidateScorer, float]],
        memory: Memory,
        beam_size: int,
        bos_id: int,
    ) -> None:
        self.scorers = scorers
        self.shape = (len(scorers), memory.states.size(0), beam_size)  # (S,B,K)
        self.states: dict[str, Any] = {name: scorer.start(memory, beam_size) for name, (scorer, _) in scorers.items()}
        self.by_candidates = {name for name, (scorer, _) in scorers.items() if isinstance(scorer, CandidateScorer)}
        self.tables: dict[str, Tensor] = {}  # latest (N,V) of scorers of the whole vocabulary
        weights = [weight for _, weight in scorers.values()]
        self.weights = memory.states.new_tensor(weights, dtype=torch.float64).view(-1, 1, 1, 1)
        self.sums = self.weights.new_zeros(self.shape)  # of the prefixes, unweighted
        self.tokens = memory.lengths.new_full((self.shape[1] * beam_size,), bos_id)  # to be given to the scorers

    def sums_with(self, candidates: Tensor) -> Tensor:
        """candidates (B,C) -> (S,B,K,1+C): each scorer's sum over a prefix, then over it and each candidate."""
        rows = candidates.repeat_interleave(self.shape[2], dim=0)  # (N,C)
        parts = [self._score(name, rows).view(*self.shape[1:], -1) for name in self.scorers]
        self.extended = F.pad(torch.stack(parts).double(), (1, 0)) + self.sums.unsqueeze(-1)
        return self.extended

    def weigh(self, sums: Tensor) -> Tensor:
        """(S,B,K,C) -> (B,K,C); what one scorer forbids is forbidden, under a negative weight too."""
        return (sums * self.weights).masked_fill(sums == NEVER, NEVER).sum(dim=0)

    def select(self, chosen: Tensor, parents: Tensor, tokens: Tensor) -> None:
        """Go on with what was `chosen` (B,K) of the last `sums_with`, the extensions of `parents` (B,K) by `tokens`."""
        self.sums = self.extended.flatten(2).gather(2, chosen.expand(self.shape))
        first_rows = torch.arange(len(parents), device=parents.device).unsqueeze(1) * self.shape[2]
        rows = (first_rows + parents).flatten()
        self.tokens = tokens.flatten()
        for name, (scorer, _) in self.scorers.items():
            self.states[name] = scorer.select(self.states[name], rows)
        self.tables = {name: table.index_select(0, rows) for name, table in self.tables.items()}

    def _score(self, name: str, candidates: Tensor) -> Tensor:
        """candidates (N,C) -> (N,C)"""
        scorer: Any = self.scorers[name][0]
        if name in self.by_candidates:
            return scorer.score_candidates(self.tokens, candidates, self.states[name])
        scores = scorer.score(self.tokens, self.states[name])  # (N,V)
        if name in self.tables:
            scores = torch.where((self.tokens == NO_TOKEN).unsqueeze(1), self.tables[name], scores)
        self.tables[name] = scores
        return scores.gather(1, candidates)


def _merged(extends: Tensor, repeats: Tensor) -> Tensor:
    """extends (B,K of i,K of j), repeats (B,K,1+C) -> where in (K*(1+C)) the extension of i that is j stands, (B,K).

    0, a place where no extension stands, for a prefix j that has no such i or whose last token is not a candidate.
    """
    width = repeats.size(2)
    ends = torch.arange(width, (repeats.size(1) + 1) * width, width, device=repeats.device)  # of each row
    columns = torch.arange(width, device=repeats.device)
    # bmm, max and argmax would do too, but on a CPU they start threads for these few numbers.
    row_end, column = (extends * ends.unsqueeze(1)).amax(dim=1), (repeats * columns).amax(dim=2)
    return (row_end + column - width).clamp_(min=0)


def _trace_back(rows: Tensor, parents: list[Tensor], tokens: list[Tensor]) -> list[list[list[int]]]:
    """Tokens of the last frame's `rows` (B,nbest), from the parents and tokens (B,K) of every frame."""
    traced = rows.new_empty((len(tokens), *rows.shape))
    for t in reversed(range(len(tokens))):
        traced[t] = tokens[t].gather(1, rows)
        rows = parents[t].gather(1, rows)
    return [
        [[token for token in path if token != NO_TOKEN] for path in paths] for paths in traced.permute(1, 2, 0).tolist()
    ]
