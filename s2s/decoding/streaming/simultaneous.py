"""Simultaneous decoding: an offline attention model that speaks before it has heard all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from s2s.decoding.engine import LabelSearch
from s2s.decoding.hypothesis import Hypothesis
from s2s.decoding.prompt import PromptedMemory
from s2s.decoding.streaming.attention import Attend
from s2s.decoding.streaming.partial import Partial
from s2s.decoding.streaming.policy import Policy, Proposal
from s2s.decoding.streaming.words import WordStart, whole_words
from s2s.errors import UserError
from s2s.models.memory import Memory


@dataclass
class Progress:
    """How far an utterance has come."""

    policy: Any  # what the policy remembers
    committed: list[int] = field(default_factory=list)  # tokens
    frames: list[tuple[int, int]] = field(default_factory=list)  # of the committed tokens, where they are known
    heard: int = 0  # frames, when something was last committed to


class SimultaneousSearch:
    """Searches anew whenever more of an utterance is heard, and commits to as much of what it finds as a policy allows.

    `search` goes on from the committed tokens, which never change. `attend` says where the decoder looked: the frame
    most attended to, or that of the token before where it is later, is when a token was said. `starts` (V,) bool are
    the tokens that begin a word: with them only whole words are committed to, and what follows begins a new word. Until
    the source ends, new tokens are at most as many as the search's `max_length_ratio` allows for the frames since
    something was last committed to, so a decoder that loops does not fill the page. Raises UserError for a policy that
    needs attention where there is no `attend`.
    """

    def __init__(
        self, search: LabelSearch, policy: Policy, attend: Attend | None = None, starts: Tensor | None = None
    ) -> None:
        if policy.needs_attention and attend is None:
            raise UserError(f"{type(policy).__name__}: needs to know where the decoder looks; give it an attention")
        self.policy, self.attend = policy, attend
        self.search, self.starts = search, None
        if starts is not None:
            self.search = search.constrained("words", WordStart(starts, search.eos_id))
            self.starts = starts.tolist()

    def start(self) -> Progress:
        """An utterance of which nothing was heard."""
        return Progress(self.policy.start())

    @torch.inference_mode()
    def step(
        self,
        memory: Memory,
        progress: Sequence[Progress],
        ended: Sequence[bool],
        heard: Sequence[int] | None = None,
        words: Sequence[int] | None = None,
    ) -> list[Partial]:
        """What is said of B utterances, given a memory of all that was heard of each; `progress` advances in place.

        Where the source has `ended`, all is committed to. `heard` are the frames of the source, at least 1, where a
        memory has more of them (silence behind it, the end of a sentence); `words` how many it has, where it is text.
        The prompts of a `PromptedMemory` stand before the text. Raises UtteranceError as the search does.
        """
        frames = memory.lengths.tolist() if heard is None else list(heard)
        found = [hypotheses[0] for hypotheses in self.search(memory, [each.committed for each in progress])]
        attention = self._attention(memory, found, progress, frames)
        partials = []
        for b, (each, hypothesis) in enumerate(zip(progress, found, strict=True)):
            timed = replace(hypothesis, frames=None if attention is None else _frames(each, attention[b]))
            if ended[b]:
                count = len(hypothesis.tokens)
            else:
                proposal = Proposal(
                    tokens=hypothesis.tokens,
                    begins=self._begins(hypothesis.tokens),
                    num_committed=len(each.committed),
                    heard=frames[b],
                    attention=None if attention is None else attention[b],
                    words=None if words is None else words[b],
                )
                count = self._count(proposal, each)
            self._commit(each, timed, count, frames[b])
            if not self.policy.shows_guesses:
                timed = replace(timed, tokens=each.committed, frames=None if timed.frames is None else each.frames)
            partials.append(Partial(timed, count, frames[b]))
        return partials

    def _count(self, proposal: Proposal, progress: Progress) -> int:
        """How many tokens to commit to."""
        wanted, progress.policy = self.policy.commit(proposal, progress.policy)
        most = int((proposal.heard - progress.heard) * self.search.limits.max_length_ratio)
        wanted = min(wanted, proposal.num_committed + most, len(proposal.tokens))
        return max(proposal.num_committed, whole_words(wanted, proposal.begins))

    def _commit(self, progress: Progress, hypothesis: Hypothesis, count: int, heard: int) -> None:
        if count > len(progress.committed):
            progress.heard = heard
        progress.committed = hypothesis.tokens[:count]
        progress.frames = [] if hypothesis.frames is None else hypothesis.frames[:count]

    def _begins(self, tokens: Sequence[int]) -> list[bool]:
        return [i == 0 or self.starts is None or self.starts[token] for i, token in enumerate(tokens)]

    def _attention(
        self, memory: Memory, found: Sequence[Hypothesis], progress: Sequence[Progress], heard: Sequence[int]
    ) -> list[Tensor] | None:
        """Where the decoder looked for what is not committed, (U',T') of each utterance."""
        if self.attend is None:
            return None
        if isinstance(memory, PromptedMemory):
            pairs = zip(memory.prompts.tolist(), memory.prompt_lengths.tolist(), strict=True)
            first = [prompt[:length] for prompt, length in pairs]
        else:
            first = [[self.search.bos_id]] * len(found)
        rows = [[*before, *hypothesis.tokens[:-1]] for before, hypothesis in zip(first, found, strict=True)]
        longest = max(map(len, rows))
        tokens = memory.lengths.new_tensor([[*row, *[0] * (longest - len(row))] for row in rows])
        lengths = memory.lengths.new_tensor(list(map(len, rows)))
        weights = self.attend(memory, tokens, lengths, memory.lengths.new_tensor(heard))
        cut = []
        for b, hypothesis in enumerate(found):
            before = len(first[b]) - 1  # a token is predicted by the one before it
            own = slice(before + len(progress[b].committed), before + len(hypothesis.tokens))
            cut.append(weights[b, own, : heard[b]])
        return cut


def _frames(progress: Progress, attention: Tensor) -> list[tuple[int, int]]:
    """The frame of each token, and the one past it: `attention` (U',T') of those that are not committed."""
    frames = list(progress.frames)
    for frame in attention.argmax(dim=1).tolist():
        frame = max(frame, frames[-1][0]) if frames else frame
        frames.append((frame, frame + 1))
    return frames
