"""What one may ask about hypotheses once they are found: when each token was said, and where the decoder looked."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import torch

from s2s.decoding.alignment import token_spans
from s2s.decoding.hypothesis import Hypothesis, Search
from s2s.decoding.prompt import PromptedMemory
from s2s.models.ctc import CTC
from s2s.models.encoder_decoder import EncoderDecoder
from s2s.models.hybrid import HybridModel
from s2s.models.memory import Memory
from s2s.models.segmental import SegmentalModel


class AnnotatingSearch:
    """Adds `frames`, from the alignment of each hypothesis with the CTC output, and `attention` to what `search` finds.

    A hypothesis that cannot be aligned, having more tokens than the utterance has frames, gets no frames.
    """

    def __init__(
        self, search: Search, model: HybridModel | EncoderDecoder, token_times: bool = False, attention: bool = False
    ) -> None:
        self.search, self.model = search, model
        self.token_times, self.attention = token_times, attention

    @torch.inference_mode()
    def __call__(self, memory: Memory) -> list[list[Hypothesis]]:
        found = self.search(memory)
        for b, hypotheses in enumerate(found):
            alone = memory.rows(b, b + 1)
            if self.token_times:
                assert isinstance(self.model, HybridModel)
                hypotheses = aligned(self.model.ctc, alone, hypotheses)
            if self.attention:
                hypotheses = self._attended(alone, hypotheses)
            found[b] = hypotheses
        return found

    def _attended(self, memory: Memory, hypotheses: list[Hypothesis]) -> list[Hypothesis]:
        if isinstance(self.model, SegmentalModel):
            return _attended_in_segments(self.model, memory, hypotheses)
        longest = max(len(h.tokens) for h in hypotheses)
        first = memory.prompts[0].tolist() if isinstance(memory, PromptedMemory) else [self.model.bos_id]
        rows = [[*first, *h.tokens, *[0] * (longest - len(h.tokens))] for h in hypotheses]
        weights = self.model.decoder.attention(memory, memory.lengths.new_tensor(rows))[:, len(first) - 1 :]  # (n,U,T)
        return [replace(h, attention=w[: len(h.tokens)]) for h, w in zip(hypotheses, weights, strict=True)]


def _attended_in_segments(model: SegmentalModel, memory: Memory, hypotheses: list[Hypothesis]) -> list[Hypothesis]:
    """The hypotheses of one utterance, whose frames are their segments, with `attention`."""
    longest, behind = max(len(h.tokens) for h in hypotheses), int(memory.lengths) + 1
    tokens = [[model.bos_id, *h.tokens, *[0] * (longest - len(h.tokens))] for h in hypotheses]
    ends = [[*(end for _, end in h.frames or []), *[behind] * (longest - len(h.tokens))] for h in hypotheses]
    weights = model.decoder.attention(memory, memory.lengths.new_tensor(tokens), memory.lengths.new_tensor(ends))
    return [replace(h, attention=w[: len(h.tokens)]) for h, w in zip(hypotheses, weights, strict=True)]


@torch.inference_mode()
def aligned(ctc: CTC, memory: Memory, hypotheses: list[Hypothesis]) -> list[Hypothesis]:
    """The hypotheses of one utterance with `frames`, but those that have more tokens than it has frames."""
    num_frames = int(memory.lengths)
    fits = [h for h in hypotheses if _frames_needed(h.tokens) <= num_frames]
    if not fits:
        return hypotheses
    log_probs = ctc(memory).expand(len(fits), -1, -1)
    spans = token_spans(log_probs, memory.lengths.expand(len(fits)), [h.tokens for h in fits], ctc.blank_id)
    timed = {id(h): replace(h, frames=frames) for h, frames in zip(fits, spans, strict=True)}
    return [timed.get(id(h), h) for h in hypotheses]


def _frames_needed(tokens: list[int]) -> int:
    """A frame for each token, and one of blank between two that are the same."""
    return len(tokens) + sum(a == b for a, b in pairwise(tokens))
