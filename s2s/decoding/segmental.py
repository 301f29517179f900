"""Search with a segmental model: every utterance and hypothesis at once, one frame after the other."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from s2s.decoding.config import RECOMBINATIONS
from s2s.decoding.hypothesis import NOT_A_NUMBER, Hypothesis, UtteranceError
from s2s.decoding.segmental_beam import (
    NEVER,
    NO_NODE,
    Open,
    SegmentalBeam,
    num_shared_labels,
    recombined,
    traced,
)
from s2s.errors import UserError, nearest
from s2s.models.memory import Memory
from s2s.models.segmental import SegmentalModel
from s2s.models.segmental_decoder import LabelPast
from s2s.nn.attention.multi_head import Cached

MULTIPLIER = 6364136223846793005  # of Knuth's MMIX generator


class SegmentalSearch:
    """Finds the labels and segments of the highest P(labels, segments), frame by frame (Zeyer et al. 2022).

    Two decoders of arXiv:2210.14742. At every frame each hypothesis goes on in its segment, or ends it with a label.
    With `apart` 0 all that comes of that shares one beam of `beam_size`: blanks and labels alike. Otherwise hypotheses
    that end a segment at a frame compete among themselves only, since those that have not ended theirs lack the score
    of a label: those of the last `apart` such frames are all kept, `beam_size` each, and older ones share a beam.

    Hypotheses of which the model cannot tell any more how they came about, with the same labels and all that their next
    label may see, become one: `recombine` "max" keeps the better one, "sum" adds them, whose score then is that of all
    segmentations in the beam. That loses nothing. `threshold`: hypotheses so many nats below the best are dropped, and
    segments end only where that would keep a hypothesis above it; None: none and everywhere.

    What is kept of an utterance grows by a few numbers for each frame. Raises UserError for values out of range.
    """

    def __init__(
        self,
        model: SegmentalModel,
        beam_size: int = 10,
        nbest: int = 1,
        apart: int = 32,
        recombine: str = "max",
        threshold: float | None = 10.0,
    ) -> None:
        if not 1 <= nbest <= beam_size:
            raise UserError(f"nbest={nbest}: expected 1 to beam_size={beam_size}")
        if apart < 0:
            raise UserError(f"apart={apart}: expected 0 or more frames")
        if recombine not in RECOMBINATIONS:
            raise UserError(
                f"recombine={recombine}: expected {' or '.join(RECOMBINATIONS)}.{nearest(recombine, RECOMBINATIONS)}"
            )
        if threshold is not None and not threshold > 0:
            raise UserError(f"threshold={threshold}: expected more than 0 nats, or none for no such limit")
        self.decoder, self.bos_id = model.decoder, model.bos_id
        self.segments = model.decoder.segments
        self.forbidden = sorted({model.blank_id, model.bos_id, model.eos_id})
        self.num_candidates = min(beam_size, model.vocab_size - len(self.forbidden))
        self.beam_size, self.nbest, self.apart = beam_size, nbest, apart
        self.total, self.threshold = recombine == "sum", threshold

    @torch.inference_mode()
    def __call__(self, memory: Memory) -> list[list[Hypothesis]]:
        """The `nbest` best hypotheses of each utterance, best first; `frames` are their segments."""
        return self.finish(self.step(memory, self.start(len(memory.lengths), memory)))

    def start(self, size: int, like: Memory) -> SegmentalBeam:
        """The beam of B = `size` utterances of which nothing was heard."""
        bos = like.lengths.new_full((size, 1), self.bos_id, dtype=torch.long)
        none = torch.zeros_like(bos)
        scores = like.states.new_zeros(size, 1, dtype=torch.float64)
        first = self._opened(bos, self.decoder.no_labels(size), scores, none, none, none + NO_NODE, none)
        slots = (1 + self.apart) * self.beam_size
        opened = first.each(lambda x: x.expand(-1, slots, *x.shape[2:]))
        scores = scores.new_full((size, slots), NEVER)
        scores[:, 0] = 0.0
        frames = like.states.new_zeros(size, self.segments.before or 0, like.states.size(2))
        return SegmentalBeam(
            opened._replace(scores=scores),
            turns=none.squeeze(1),
            decided=none.squeeze(1),
            context=frames,
            pending=[frames.new_zeros(0, frames.size(2))] * size,
            history=[none.new_zeros(0, self.beam_size, 5)] * size,
        )

    def step(self, memory: Memory, beam: SegmentalBeam, ended: bool = False) -> SegmentalBeam:
        """The beam when more frames are heard, none or more of each utterance; none are to come where it has `ended`.

        A frame is decided on when all is heard that a segment which ends there sees. Raises UtteranceError for an
        output that is not a number.
        """
        beam = replace(beam, history=list(beam.history))
        heard = [
            torch.cat((old, new[:n]))
            for old, new, n in zip(beam.pending, memory.states, memory.lengths.tolist(), strict=True)
        ]
        after = 0 if ended else self.segments.after
        ready = [0 if after is None else max(0, len(frames) - after) for frames in heard]
        if any(ready):
            self._advance(beam, heard, ready)
        beam.pending = [frames[n:].clone() for frames, n in zip(heard, ready, strict=True)]
        for b in beam.open.scores.isnan().any(dim=1).nonzero().flatten().tolist():
            raise UtteranceError(b, NOT_A_NUMBER)
        return beam

    def finish(self, beam: SegmentalBeam) -> list[list[Hypothesis]]:
        """The `nbest` best hypotheses of each utterance, best first, now that they have ended."""
        nothing = Memory(beam.context.new_zeros(len(beam.turns), 0, beam.context.size(2)), torch.zeros_like(beam.turns))
        return self._best(self.step(nothing, beam, ended=True), self.nbest)

    def unfinished(self, beam: SegmentalBeam) -> list[tuple[Hypothesis, int]]:
        """The best hypothesis of each utterance so far, and how many labels all in its beam begin with."""
        alive = (beam.open.scores > NEVER).tolist()
        shared = [
            num_shared_labels(history, {node for node, is_alive in zip(nodes, own, strict=True) if is_alive})
            for history, nodes, own in zip(beam.history, beam.open.nodes.tolist(), alive, strict=True)
        ]
        return [(found[0], count) for found, count in zip(self._best(beam, 1), shared, strict=True)]

    def _best(self, beam: SegmentalBeam, nbest: int) -> list[list[Hypothesis]]:
        scores, index = recombined(beam.open.scores, beam.open.hashes, self.total).topk(nbest, dim=1)
        nodes = beam.open.nodes.gather(1, index).tolist()
        return [
            [
                Hypothesis(tokens, score, {"segmental": score}, frames)
                for score, node in zip(own, ends, strict=True)
                if score > NEVER
                for tokens, frames in [traced(history, node)]
            ]
            for own, ends, history in zip(scores.tolist(), nodes, beam.history, strict=True)
        ]

    def _advance(self, beam: SegmentalBeam, heard: list[Tensor], ready: list[int]) -> None:
        """Decide on the first `ready` of the frames (n,D) of each utterance that follow those decided on."""
        frames = torch.cat((beam.context, pad_sequence(heard, batch_first=True)), dim=1)  # (B,C+T,D)
        ends, kept = self.decoder.frames(frames)
        num_before, counts = beam.context.size(1), beam.decided.new_tensor(ready)
        known = beam.decided + beam.decided.new_tensor(list(map(len, heard)))
        number = (beam.decided - num_before).unsqueeze(1) + torch.arange(frames.size(1), device=frames.device)
        nodes, when = [], []
        for i in range(max(ready)):
            here = i < counts
            span = slice(None)
            if self.segments.before is not None:
                span = slice(i, i + num_before + 1 + self.segments.right)
            seen = number[:, span]
            there = (seen >= 0) & (seen < known.unsqueeze(1))
            window = tuple(tuple(each[:, :, span] for each in cached) for cached in kept)
            ended = self._frame(beam, here, ends[:, num_before + i], window, seen, there)
            if ended is not None:
                nodes.append(ended[0])
                when.append(ended[1])
            beam.decided = beam.decided + here
        if nodes:
            new, happened = torch.stack(nodes, dim=1), torch.stack(when, dim=1)  # (B,F,K,5), (B,F)
            beam.history = [torch.cat((old, n[w])) for old, n, w in zip(beam.history, new, happened, strict=True)]
        beam.context = torch.stack([own[n : n + num_before] for own, n in zip(frames, ready, strict=True)])

    def _frame(
        self,
        beam: SegmentalBeam,
        here: Tensor,
        frame: Tensor,
        window: tuple[Cached, ...],
        seen: Tensor,
        there: Tensor,
    ) -> tuple[Tensor, Tensor] | None:
        """The next frame of the utterances that are `here` (B,): what the length model makes of it (B,D).

        Around it are the frames `window`, numbers `seen` (B,W), those that are `there` (B,W). Returns nodes (B,K,5) of
        segments that end with the frame, and in which utterances there are any (B,); None where in none of them.
        """
        odds = self.decoder.length(frame.unsqueeze(1), beam.open.ends).double()  # (B,P)
        goes_on, ends = (beam.open.scores + F.logsigmoid(each) for each in (-odds, odds))
        goes_on = torch.where(here.unsqueeze(1), goes_on, beam.open.scores)
        may_end = (ends > NEVER) & here.unsqueeze(1)
        if self.threshold is not None:
            may_end &= ends >= goes_on.amax(dim=1, keepdim=True) - self.threshold  # no label adds to the score
        beam.open = beam.open._replace(scores=goes_on)
        most = int(may_end.sum(dim=1).max())
        if not most:
            return None
        scores, rows = ends.masked_fill(~may_end, NEVER).topk(most, dim=1)
        new, nodes = self._ended(beam, scores, rows, window, seen, there)
        happened = may_end.any(dim=1)
        self._enter(beam, new, happened)
        beam.turns = beam.turns + happened
        return nodes, happened

    def _ended(
        self,
        beam: SegmentalBeam,
        scores: Tensor,
        rows: Tensor,
        window: tuple[Cached, ...],
        seen: Tensor,
        there: Tensor,
    ) -> tuple[Open, Tensor]:
        """The best of the hypotheses `rows` (B,A) whose segments have ended, with `scores` (B,A), and a label.

        Returns K of them, and their nodes (B,K,5).
        """
        old, end = beam.open.take(rows), beam.decided.unsqueeze(1) + 1
        shown = self.segments.shown(old.starts, end, seen) & there.unsqueeze(1)  # (B,A,W)
        shown = shown | ~shown.any(dim=-1, keepdim=True)  # of utterances that have no such frame
        log_probs = self.decoder.predict(old.hidden[:, :, -1], window, shown)[0].double()  # (B,A,V)
        log_probs[..., self.forbidden] = NEVER
        labels, tokens = log_probs.topk(self.num_candidates, dim=-1)  # no other can be among the best K
        totals = (scores.unsqueeze(2) + labels).flatten(1)
        hashes = (old.hashes.unsqueeze(2) * MULTIPLIER + tokens + 1).flatten(1)
        size = min(self.beam_size, totals.size(1))
        best, chosen = recombined(totals, hashes, self.total).topk(size, dim=1)
        best, chosen = F.pad(best, (0, self.beam_size - size), value=NEVER), F.pad(chosen, (0, self.beam_size - size))
        parents = old.take(chosen // self.num_candidates)
        token, hashed = tokens.flatten(1).gather(1, chosen), hashes.gather(1, chosen)
        number = beam.turns.unsqueeze(1) * self.beam_size + torch.arange(self.beam_size, device=chosen.device)
        past = LabelPast(parents.hidden.flatten(0, 1), parents.cells.flatten(0, 1))
        new = self._opened(token, past, best, hashed, end.expand_as(token), number, parents.depths + 1)
        return new, torch.stack((parents.nodes, token, new.starts, new.depths, hashed), dim=2)

    def _opened(
        self,
        tokens: Tensor,
        past: LabelPast,
        scores: Tensor,
        hashes: Tensor,
        starts: Tensor,
        nodes: Tensor,
        depths: Tensor,
    ) -> Open:
        """Hypotheses that go on after tokens (B,n), with the past (B*n) of those before."""
        states, kept = self.decoder.read(tokens.reshape(-1, 1), past)
        ends = self.decoder.length.labels(states.squeeze(1))
        hidden, cells, ends = (x.unflatten(0, tokens.shape) for x in (*kept, ends))
        return Open(scores, hashes, starts, nodes, depths, hidden, cells, ends)

    def _enter(self, beam: SegmentalBeam, new: Open, happened: Tensor) -> None:
        """Put `new` hypotheses (B,K) into the beam, in the utterances where that `happened` (B,)."""
        slots = torch.arange(self.beam_size, device=new.nodes.device).expand_as(new.nodes)
        entering = new
        if self.apart:
            places = slots + (1 + beam.turns % self.apart).unsqueeze(1) * self.beam_size
            entering = beam.open.take(places)  # the oldest
            beam.open = beam.open.put(places, new, happened)
        both = beam.open.take(slots).beside(entering)
        # Segments that are longer than what a label sees are alike.
        length = (beam.decided.unsqueeze(1) + 2 - both.starts).clamp(max=self.segments.num_lengths)
        scores = recombined(both.scores, both.hashes * MULTIPLIER + length, self.total)
        scores, index = scores.topk(self.beam_size, dim=1)
        beam.open = beam.open.put(slots, both.take(index)._replace(scores=scores), happened)
        if self.threshold is not None:
            scores = beam.open.scores
            low = scores < scores.amax(dim=1, keepdim=True) - self.threshold
            beam.open = beam.open._replace(scores=scores.masked_fill(low & happened.unsqueeze(1), NEVER))
