"""CTC prefix beam search: every utterance and prefix at once, one frame after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import compress

import torch
import torch.nn.functional as F
from torch import Tensor

from s2s.decoding.beam_alignment import BeamAlignments
from s2s.decoding.fusion import NEVER, NO_TOKEN, Fusion
from s2s.decoding.hypothesis import NOT_A_NUMBER, Hypothesis, UtteranceError, num_shared
from s2s.decoding.scorers import CandidateScorer, Scorer
from s2s.errors import UserError
from s2s.models.ctc import CTC
from s2s.models.memory import Memory
from s2s.nn.lengths import valid_mask

NO_PARENT, DEAD = -1, -2  # in place of a hash
MULTIPLIER = 6364136223846793005  # of Knuth's MMIX generator


@dataclass(frozen=True)
class _Emissions:
    """Log-probabilities of the frames; past an utterance's end a blank is certain."""

    blank: Tensor  # (T,B,1)
    labels: Tensor  # (T,B,V), -inf for the blank and the forbidden ids
    tokens: Tensor  # (T,B,1+C) NO_TOKEN, then the C best tokens of each frame
    scores: Tensor  # (T,B,1+C) those of `tokens`


@dataclass
class Prefixes:
    """K different prefixes of each of B utterances, and the log-probability of the frames so far for each.

    Prefixes are compared by a rolling hash of 64 bits. Where there are fewer than K, the others are DEAD, with -inf.
    """

    blank_ends: Tensor  # (B,K) all alignments whose last frame is a blank
    label_ends: Tensor  # (B,K) those whose last frame is the last token
    total: Tensor  # (B,K) both
    last: Tensor  # (B,K) last tokens, the blank of the empty prefix
    hashes: Tensor  # (B,K)
    parent_hashes: Tensor  # (B,K) of the prefix without its last token, NO_PARENT of the empty one


@dataclass
class PrefixBeam:
    """All that is known of B utterances whose frames come by and by."""

    prefixes: Prefixes  # best first
    fusion: Fusion
    heard: Tensor  # (B,) frames so far
    steps: list[Tensor]  # of each utterance, (F,2,K): the parent of each prefix and the token more, or NO_TOKEN
    alignments: BeamAlignments | None  # where frames of the tokens are asked for

    def rows(self, utterances: Sequence[int]) -> PrefixBeam:
        """Of those utterances alone, in that order; this one stays as it is."""
        index = self.heard.new_tensor(utterances)
        return PrefixBeam(
            Prefixes(*(getattr(self.prefixes, each.name)[index] for each in fields(Prefixes))),
            self.fusion.rows(index),
            self.heard[index],
            [self.steps[b] for b in utterances],
            None if self.alignments is None else self.alignments.rows(index),
        )

    @classmethod
    def joined(cls, beams: Sequence[PrefixBeam]) -> PrefixBeam:
        """The utterances of several, one after the other; these stay as they are."""
        columns = ([getattr(beam.prefixes, each.name) for beam in beams] for each in fields(Prefixes))
        alignments = [beam.alignments for beam in beams if beam.alignments is not None]
        return cls(
            Prefixes(*map(torch.cat, columns)),
            Fusion.joined([beam.fusion for beam in beams]),
            torch.cat([beam.heard for beam in beams]),
            [steps for beam in beams for steps in beam.steps],
            BeamAlignments.joined(alignments) if alignments else None,
        )


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
        beam = self.start(len(memory.lengths), memory)
        self.step(memory, beam)
        return self.finish(beam)

    def start(self, size: int, like: Memory, with_frames: bool = False) -> PrefixBeam:
        """The beam of B=`size` utterances of which nothing was heard: one empty prefix each, as after a blank.

        Its hypotheses will have the frames of their tokens where `with_frames`.
        """
        lengths = like.lengths.new_zeros(size, dtype=torch.long)
        nothing = Memory(like.states.new_zeros(size, 0, like.states.size(-1)), lengths)
        blank_ends = like.states.new_full((size, self.beam_size), NEVER, dtype=torch.float64)
        blank_ends[:, 0] = 0.0
        none = torch.zeros_like(blank_ends, dtype=torch.long)
        label_ends = torch.full_like(blank_ends, NEVER)
        return PrefixBeam(
            Prefixes(blank_ends, label_ends, blank_ends, none + self.ctc.blank_id, none, none + NO_PARENT),
            Fusion(self.scorers, nothing, self.beam_size, self.bos_id),
            heard=lengths,
            steps=[none.new_zeros(0, 2, self.beam_size)] * size,
            alignments=BeamAlignments.empty(size, self.beam_size, blank_ends) if with_frames else None,
        )

    def step(self, memory: Memory, beam: PrefixBeam) -> None:
        """Hear more frames of each utterance, none or more."""
        emissions, lengths = self._emissions(memory), memory.lengths.tolist()
        valid = valid_mask(memory.lengths, max(lengths)).t().unsqueeze(2)  # (T,B,1)
        steps = []
        frames = zip(emissions.blank, emissions.labels, emissions.tokens, emissions.scores, strict=True)
        for t, frame in enumerate(frames):
            steps.append(self._advance(beam, frame, None if t < min(lengths) else valid[t]))
        if steps:
            new = torch.stack([torch.stack(column, dim=1) for column in zip(*steps, strict=True)], dim=2)  # (B,T,2,K)
            beam.steps = [torch.cat((own, more[:n])) for own, more, n in zip(beam.steps, new, lengths, strict=True)]
        beam.heard = beam.heard + memory.lengths
        if beam.alignments is not None:
            beam.alignments.file(lengths)

    def finish(self, beam: PrefixBeam) -> list[list[Hypothesis]]:
        """The `nbest` best hypotheses of each utterance, best first, now that they have ended."""
        scores, sums = beam.prefixes.total, beam.prefixes.total.unsqueeze(0)
        if self.scorers:
            ended = beam.fusion.sums_with(beam.heard.new_full((len(beam.heard), 1), self.eos_id))
            scores = scores + beam.fusion.weigh(ended)[..., 1]
            sums = torch.cat((sums, ended[..., 1]))  # (1+S,B,K)
        return self._best(beam, scores, sums, self.nbest)

    def unfinished(self, beam: PrefixBeam) -> list[tuple[Hypothesis, int]]:
        """The best hypothesis of each utterance so far, without eos, and how many tokens all in its beam begin with."""
        sums = torch.cat((beam.prefixes.total.unsqueeze(0), beam.fusion.sums))
        scores = beam.prefixes.total + beam.fusion.weigh(beam.fusion.sums.unsqueeze(-1)).squeeze(-1)
        best = self._best(beam, scores, sums, 1)
        shared = [
            num_shared(_trace_back(steps, list(compress(range(self.beam_size), alive))))
            for steps, alive in zip(beam.steps, (scores > NEVER).tolist(), strict=True)
        ]
        return [(hypotheses[0], size) for hypotheses, size in zip(best, shared, strict=True)]

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

    def _advance(
        self, beam: PrefixBeam, frame: tuple[Tensor, Tensor, Tensor, Tensor], valid: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """One frame: blank (B,1), labels (B,V), tokens and scores (B,1+C), of the utterances of `valid` (B,1) or all.

        The beam becomes the best of its prefixes and their extensions. Returns the parent of each (B,K) and the token
        it is longer by (B,K), or NO_TOKEN.
        """
        old, (blank, labels, tokens, scores), width = beam.prefixes, frame, frame[2].size(1)
        # A token that repeats the last one is a new one only after a blank.
        after_blank, after_any = old.blank_ends.unsqueeze(2), old.total.unsqueeze(2)  # (B,K,1)
        last = old.last.unsqueeze(2)
        repeats = tokens.unsqueeze(1) == last  # (B,K,1+C)
        pool = (torch.where(repeats, after_blank, after_any) + scores.unsqueeze(1)).flatten(1)  # (B,K*(1+C))

        # Where prefix j is prefix i and one token more, that extension of i is not a new prefix, but part of j.
        extends = old.hashes.unsqueeze(2) == old.parent_hashes.unsqueeze(1)  # (B,K of i,K of j)
        entering = torch.where(last == old.last.unsqueeze(1), after_blank, after_any)
        entering = entering.masked_fill_(~extends, NEVER).amax(dim=1)  # (B,K of j)
        pool.scatter_(1, _merged(extends, repeats), NEVER)

        label_ends = torch.logaddexp(old.label_ends, entering) + labels.gather(1, old.last)
        blank_ends = old.total + blank
        pool[:, ::width] = torch.logaddexp(label_ends, blank_ends)  # no token more

        ranked = pool
        if self.scorers:
            sums = beam.fusion.sums_with(tokens[:, 1:])
            ranked = pool + beam.fusion.weigh(sums).flatten(1)
        ranks, chosen = ranked.topk(self.beam_size, dim=-1)  # (B,K)
        if valid is not None:  # the others have no such frame: they stay as they are
            stay = torch.arange(self.beam_size, device=chosen.device) * width
            chosen = torch.where(valid, chosen, stay)
            label_ends = torch.where(valid, label_ends, old.label_ends)
            blank_ends = torch.where(valid, blank_ends, old.blank_ends)
        parents, choices = chosen // width, chosen % width
        token = tokens.gather(1, choices)
        grew = choices > 0
        dead = ranks == NEVER
        if self.scorers:
            beam.fusion.advance(sums, chosen, parents, token.masked_fill(dead, NO_TOKEN))
        if beam.alignments is not None:
            beam.alignments.advance(old.last, extends, frame, parents, choices, valid)

        total, hashes = pool.gather(1, chosen), old.hashes.gather(1, parents)
        # What stands for nothing may be a copy of a merged prefix: it must be nobody's parent or child.
        beam.prefixes = Prefixes(
            blank_ends=blank_ends.gather(1, parents).masked_fill_(grew, NEVER),
            label_ends=torch.where(grew, total, label_ends.gather(1, parents)),
            total=total,
            last=torch.where(grew, token, old.last.gather(1, parents)),
            hashes=torch.where(grew, hashes * MULTIPLIER + (token + 1), hashes).masked_fill_(dead, DEAD),
            parent_hashes=torch.where(grew, hashes, old.parent_hashes.gather(1, parents)).masked_fill_(dead, NO_PARENT),
        )
        return parents, token

    def _best(self, beam: PrefixBeam, scores: Tensor, sums: Tensor, nbest: int) -> list[list[Hypothesis]]:
        """The best of the prefixes with these scores (B,K), made of sums (1+S,B,K)."""
        scores, rows = scores.topk(nbest, dim=-1)
        parts = sums.gather(2, rows.expand(len(sums), -1, -1)).permute(1, 2, 0).tolist()
        tokens = [_trace_back(steps, own) for steps, own in zip(beam.steps, rows.tolist(), strict=True)]
        frames = None if beam.alignments is None else beam.alignments.frames(rows)
        names = ["ctc", *self.scorers]
        found = [
            [
                Hypothesis(
                    tokens[b][k],
                    score,
                    dict(zip(names, parts[b][k], strict=True)),
                    None if frames is None else frames[b][k],
                )
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


def _merged(extends: Tensor, repeats: Tensor) -> Tensor:
    """extends (B,K of i,K of j), repeats (B,K,1+C) -> where in (K*(1+C)) the extension of i that is j stands, (B,K).

    0, a place where no extension stands, for a prefix j that has no such i or whose last token is not a candidate.
    """
    width = repeats.size(2)
    columns = torch.arange(width, device=repeats.device)
    ends = torch.arange(width, (repeats.size(1) + 1) * width, width, device=repeats.device)  # of each row
    # bmm, max and argmax would do too, but on a CPU they start threads for these few numbers.
    row_end, column = (extends * ends.unsqueeze(1)).amax(dim=1), (repeats * columns).amax(dim=2)
    return (row_end + column - width).clamp_(min=0)


def _trace_back(steps: Tensor, rows: Sequence[int]) -> list[list[int]]:
    """Tokens of the prefixes `rows` of an utterance, from its steps (F,2,K)."""
    frames = steps.tolist()[::-1]
    texts = []
    for row in rows:
        text = []
        for parents, tokens in frames:
            if tokens[row] != NO_TOKEN:
                text.append(tokens[row])
            row = parents[row]
        texts.append(text[::-1])
    return texts
