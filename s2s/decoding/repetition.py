"""Guards against a decoder that says the same thing again and again."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from s2s.decoding.hypothesis import Hypothesis, Search
from s2s.errors import UserError
from s2s.models.memory import Memory
from s2s.nn.rows import join_rows


@dataclass
class NgramState:
    """The tokens of each row so far."""

    tokens: Tensor  # (N,U) bos first, with room for more
    lengths: Tensor  # (N,)
    longest: int  # no row has more tokens than this; counted here, as asking the device would wait for it


class NgramBlocking:
    """-inf for a token that would repeat an n-gram of the hypothesis, else 0 (Paulus et al. 2017, section 2.5).

    Raises UserError for an `ngram_size` below 1.
    """

    max_gain = 0.0

    def __init__(self, ngram_size: int, vocab_size: int) -> None:
        if ngram_size < 1:
            raise UserError(f"ngram_size={ngram_size}: expected 1 or more")
        self.ngram_size, self.vocab_size = ngram_size, vocab_size

    def start(self, memory: Memory, beam_size: int) -> NgramState:
        lengths = torch.zeros(memory.states.size(0) * beam_size, dtype=torch.long, device=memory.states.device)
        return NgramState(lengths.new_zeros(len(lengths), 16), lengths, 0)

    def score(self, tokens: Tensor, state: NgramState) -> Tensor:
        if state.longest == state.tokens.size(1):
            state.tokens = F.pad(state.tokens, (0, state.longest))
        state.tokens.scatter_(1, state.lengths.unsqueeze(1), tokens.unsqueeze(1))  # a -1 is written over later
        state.lengths += tokens >= 0
        state.longest += 1

        size, lengths = self.ngram_size, state.lengths.unsqueeze(1)  # (N,1)
        scores = torch.zeros(len(tokens), self.vocab_size + 1, device=tokens.device)  # one more for what is no repeat
        if state.longest >= size:
            last = lengths + torch.arange(1 - size, 0, device=tokens.device)  # (N,size-1) places of the last tokens
            context = state.tokens.gather(1, last.clamp(min=0)).unsqueeze(1)
            ngrams = state.tokens[:, : state.longest].unfold(1, size, 1)  # (N,U,size)
            there = torch.arange(ngrams.size(1), device=tokens.device) + size <= lengths
            repeats = there & (ngrams[:, :, :-1] == context).all(dim=-1)
            scores.scatter_(1, torch.where(repeats, ngrams[:, :, -1], self.vocab_size), float("-inf"))
        return scores[:, :-1]

    def select(self, state: NgramState, parents: Tensor, utterances: Tensor | None = None) -> NgramState:
        return NgramState(state.tokens.index_select(0, parents), state.lengths.index_select(0, parents), state.longest)

    def join(self, state: NgramState, other: NgramState) -> NgramState:
        return NgramState(
            join_rows(state.tokens, other.tokens),
            torch.cat((state.lengths, other.lengths)),
            max(state.longest, other.longest),
        )


def compression_ratio(text: str) -> float:
    """Bytes of the text (UTF-8) over bytes after zlib: high where it repeats itself (Radford et al. 2022, section 4.5).

    The paper takes a text above 2.4 for a loop.
    """
    data = text.encode("utf-8")
    return len(data) / len(zlib.compress(data))


def demote_loops(
    hypotheses: Sequence[Hypothesis], decode: Callable[[list[int]], str], max_ratio: float = 2.4
) -> list[Hypothesis]:
    """The hypotheses whose text has a compression ratio up to `max_ratio`, then the others, each in their order."""
    return sorted(hypotheses, key=lambda hypothesis: compression_ratio(decode(hypothesis.tokens)) > max_ratio)


class LoopGuard:
    """What `search` finds, but texts with a compression ratio above `max_ratio` come after all others."""

    def __init__(
        self, search: Search, decode: Callable[[list[int]], str], max_ratio: float = 2.4, nbest: int = 1
    ) -> None:
        if max_ratio <= 0:
            raise UserError(f"max_compression_ratio={max_ratio}: expected a number above 0, such as 2.4")
        self.search, self.decode, self.max_ratio, self.nbest = search, decode, max_ratio, nbest

    def __call__(self, memory: Memory) -> list[list[Hypothesis]]:
        return [demote_loops(found, self.decode, self.max_ratio)[: self.nbest] for found in self.search(memory)]
