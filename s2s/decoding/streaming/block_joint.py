"""Joint CTC/attention beam search over a stream, block by block."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from s2s.decoding.annotate import aligned
from s2s.decoding.engine import Choice, LabelSearch, Policy
from s2s.decoding.grid import NEVER, Grid
from s2s.decoding.hypothesis import Hypothesis, UtteranceError, num_shared
from s2s.decoding.streaming.heard import first_frames, heard_more, nothing_heard
from s2s.decoding.streaming.partial import Partial
from s2s.errors import UserError
from s2s.models.ctc import CTC
from s2s.models.memory import Memory


@dataclass(frozen=True)
class BlockBoundary:
    """Goes on as `policy` does until one of the hypotheses it chooses ends, and lets all end where they were before.

    So what a search finds are the hypotheses alive then, best first, their scores without eos.
    """

    policy: Policy

    @property
    def beam_size(self) -> int:
        return self.policy.beam_size

    @property
    def groups(self) -> int:
        return self.policy.groups

    @property
    def num_candidates(self) -> int | None:
        return self.policy.num_candidates

    def start(self, like: Tensor) -> Tensor:
        return self.policy.start(like)

    def choose(self, total: Tensor, tokens: Tensor, ends: Tensor, vocab_size: int, grid: Grid) -> Choice:
        choice = self.policy.choose(total, tokens, ends, vocab_size, grid)
        stops = (choice.ended_scores > NEVER).any(dim=1) | (choice.alive_scores == NEVER).all(dim=1)
        stops = stops.unsqueeze(1)
        slots = torch.arange(total.size(1), device=total.device).expand(len(total), -1) * total.size(2)
        return Choice(
            choice.alive,
            choice.alive_scores.masked_fill(stops, NEVER),
            slots,
            torch.where(stops, grid.scores, NEVER),
        )


@dataclass(frozen=True)
class BlockProgress:
    """How far the search has come with an utterance."""

    heard: Memory
    num_searched: int = 0  # frames, in whole blocks
    committed: list[int] = field(default_factory=list)  # tokens
    num_examined: int = 0  # tokens in which a repetition was looked for
    hypothesis: Hypothesis = field(default_factory=lambda: Hypothesis([], 0.0, frames=[]))


class BlockJointSearch:
    """Block-synchronous joint beam search (Tsunoo, Kashiwagi, Watanabe 2021, arXiv:2006.14941), by a `LabelSearch`.

    Whenever `block_size` more frames are there the search goes on over all frames so far, until one of its hypotheses
    ends: the audio that there is has been said, and what would come next is not reliable. It goes back so that the
    last `back` tokens, the unreliable one counted, are open again (the paper's conservative 2), and commits to what
    all hypotheses alive have in common; the next block goes on from there, the rest is searched for anew. At the end
    it searches to the end. So an utterance shorter than a block is searched for as `search` alone does.

    With `repetition` a token that its hypothesis had before is unreliable too, unless the block before had come as far:
    the paper's second sign of a decoder that went past the audio. Off, since with few different tokens every one comes
    again soon, and CTC prefix scores tell a decoder that goes round from one that goes on.

    Stable is what is committed to. Frames are those of the forced alignment with `ctc`. The memory of the utterance is
    kept, and every block costs a search for what is open and a look at all that was heard.

    Raises UserError for a size below 1, and for a coverage penalty, which knows nothing of what is committed.
    """

    def __init__(
        self, search: LabelSearch, ctc: CTC, block_size: int = 16, back: int = 2, repetition: bool = False
    ) -> None:
        for name, value in (("block_size", block_size), ("back", back)):
            if value < 1:
                raise UserError(f"{name}={value}: expected at least 1")
        if search.coverage_of:
            raise UserError("coverage_beta: what earlier blocks covered is not known; leave it out")
        self.search, self.ctc = search, ctc
        self.block_size, self.back, self.repetition = block_size, back, repetition
        self.block_search = copy.copy(search)
        self.block_search.policy = BlockBoundary(search.policy)
        self.block_search.nbest = search.policy.beam_size

    def start(self, size: int, like: Memory) -> list[BlockProgress]:
        """State of B = `size` utterances of which nothing is known yet."""
        return [BlockProgress(memory) for memory in nothing_heard(size, like)]

    @torch.inference_mode()
    def step(self, memory: Memory, state: list[BlockProgress]) -> list[BlockProgress]:
        """The state when new frames (B,T,D), lengths (B,) were heard. Raises UtteranceError as the search does."""
        kept = heard_more([each.heard for each in state], memory)
        state = [replace(each, heard=more) for each, more in zip(state, kept, strict=True)]
        while True:
            due = [b for b, each in enumerate(state) if int(each.heard.lengths) >= each.num_searched + self.block_size]
            if not due:
                return state
            blocks = [first_frames(state[b].heard, state[b].num_searched + self.block_size) for b in due]
            for b, block, found in zip(due, blocks, self._found(self.block_search, blocks, due, state), strict=True):
                state[b] = self._after_block(state[b], block, found)

    def _found(
        self, search: LabelSearch, memories: list[Memory], utterances: list[int], state: list[BlockProgress]
    ) -> list[list[Hypothesis]]:
        """What a search finds in the memories of some of the utterances, from what is committed on."""
        try:
            return search(Memory.joined(memories), [state[b].committed for b in utterances])
        except UtteranceError as error:
            raise UtteranceError(utterances[error.utterance], error.problem) from error

    def _after_block(self, progress: BlockProgress, block: Memory, alive: list[Hypothesis]) -> BlockProgress:
        """The progress when the hypotheses `alive` stopped at the end of a block, all of them of one length."""
        size = len(alive[0].tokens)
        examined = size
        if self.repetition:
            size = min(_first_repetition(hypothesis.tokens, progress.num_examined) for hypothesis in alive)
            examined = min(size + 1, examined)
        common = min(num_shared(hypothesis.tokens for hypothesis in alive), size + 1 - self.back)
        committed = alive[0].tokens[: max(common, len(progress.committed))]
        best = Hypothesis(alive[0].tokens[: max(size, len(committed))], alive[0].score)
        return BlockProgress(
            heard=progress.heard,
            num_searched=int(block.lengths),
            committed=committed,
            num_examined=max(examined, progress.num_examined),
            hypothesis=aligned(self.ctc, block, [best])[0],
        )

    def partials(self, state: list[BlockProgress]) -> list[Partial]:
        """The best hypothesis of each utterance after its last whole block; its score is without eos."""
        return [Partial(each.hypothesis, len(each.committed), int(each.heard.lengths)) for each in state]

    @torch.inference_mode()
    def finish(self, state: list[BlockProgress]) -> list[list[Hypothesis]]:
        """The n best hypotheses of each utterance; of one without frames, the empty one."""
        lists = [[Hypothesis([], 0.0, frames=[])] for _ in state]
        some = [b for b, each in enumerate(state) if int(each.heard.lengths)]
        if some:
            memories = [state[b].heard for b in some]
            for b, memory, found in zip(some, memories, self._found(self.search, memories, some, state), strict=True):
                lists[b] = aligned(self.ctc, memory, found)
        return lists

    def rows(self, state: list[BlockProgress], utterances: Sequence[int]) -> list[BlockProgress]:
        """The state of some of the utterances, in that order."""
        return [state[b] for b in utterances]

    def join(self, states: Sequence[list[BlockProgress]]) -> list[BlockProgress]:
        """The utterances of several states, one after the other."""
        return [each for state in states for each in state]


def _first_repetition(tokens: list[int], start: int) -> int:
    """Where the first token from `start` on is that stands before it too; the number of tokens, if none does."""
    return next((i for i in range(start, len(tokens)) if tokens[i] in tokens[:i]), len(tokens))
