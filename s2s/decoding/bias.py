"""Phrases that a hypothesis is rewarded for (contextual biasing, hot words)."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence

import torch
from torch import Tensor

from s2s.decoding.phrases import TokenAutomaton, check_phrases, empty_table
from s2s.decoding.scorers import RowState
from s2s.errors import UserError
from s2s.models.memory import Memory
from s2s.tokenizers.base import SPACE

PUNCTUATION, WITHIN_WORDS = ("Po", "Pd", "Pe", "Pf"), "'’-‐‑\\"  # a backslash begins the name of a byte
BETWEEN, INSIDE = 0, 1  # no phrase under way: between two words, inside a word


class PhraseBias(RowState):
    """The sum of the boosts of all phrases that occur in a hypothesis, each as often as it occurs, overlapping or not.

    `phrases` are tokens with a boost each (natural log; a negative one is a penalty). With the V `pieces` of the
    tokenizer a phrase occurs only as whole words: both its ends are at a ▁ or at an end of the hypothesis, or
    punctuation follows, though no apostrophe or hyphen. Without pieces it occurs wherever its tokens do.

    On the way a hypothesis is lent a potential, so that the beam keeps it: the largest share of a boost for a phrase
    under way (tokens matched over tokens of the phrase), or the boosts of the phrases that are complete if a word ends
    here, whichever is more. It is given back when the match fails or the hypothesis ends. Matches are followed by the
    automaton of Aho and Corasick 1975. Raises UserError for phrases that are empty or not of this vocabulary.
    """

    def __init__(
        self,
        phrases: Sequence[tuple[Sequence[int], float]],
        vocab_size: int,
        bos_id: int,
        eos_id: int,
        pieces: Sequence[str] | None = None,
    ) -> None:
        check_phrases([tokens for tokens, _ in phrases], vocab_size, eos_id)
        for number, (_, boost) in enumerate(phrases, start=1):
            if not math.isfinite(boost):
                raise UserError(f"phrase {number} has boost {boost}: expected a finite number")
        if pieces is not None and len(pieces) != vocab_size:
            raise UserError(f"{len(pieces)} pieces for a vocabulary of {vocab_size}: use the tokenizer of the model")
        # a word may end before a token that opens and after one that closes
        opens = torch.tensor([pieces is None or _ends_a_word(pieces[v]) for v in range(vocab_size)])
        closes = torch.tensor([pieces is None or pieces[v].endswith(SPACE) for v in range(vocab_size)])
        closes[bos_id] = opens[eos_id] = True

        own = sorted({token for tokens, _ in phrases for token in tokens})
        columns = 2 * opens.long() + closes  # tokens of no phrase share four columns
        columns[own] = torch.arange(4, 4 + len(own))
        self.opens = torch.cat((torch.tensor([False, False, True, True]), opens[own]))  # (A,)
        closes = torch.cat((torch.tensor([False, True, False, True]), closes[own]))
        table = self._compile([(columns[list(t)].tolist(), b) for t, b in phrases], self.opens.tolist(), closes)
        self.automaton = TokenAutomaton(columns, table)
        self.max_gain = max(float(self._gains(s).max()) for s in torch.arange(len(table)).split(256))

    def _compile(self, phrases: list[tuple[list[int], float]], opens: list[bool], closes: Tensor) -> Tensor:
        """The table (S,A) for phrases as columns; sets what each state (S,) is worth."""
        children: list[dict[int, int]] = [{}, {}]
        earned, potential, closed = [0.0, 0.0], [0.0, 0.0], [True, False]
        for columns, boost in phrases:
            node = BETWEEN
            for depth, column in enumerate(columns):
                potential[node] = max(potential[node], boost * depth / len(columns))
                if column not in children[node]:
                    children[node][column] = len(children)
                    children.append({})
                    earned.append(0.0)
                    potential.append(0.0)
                    closed.append(False)
                node = children[node][column]
            earned[node] += boost

        table = empty_table(len(children), len(closes))
        table[[BETWEEN, INSIDE]] = torch.where(closes, BETWEEN, INSIDE).int()
        breadth_first = []  # (column, node it leads to, state of the longest proper suffix)
        for column, node in children[BETWEEN].items():
            breadth_first.append((column, node, int(table[BETWEEN, column])))
        for column, node, _ in breadth_first:
            table[BETWEEN, column] = node
            if opens[column]:
                table[INSIDE, column] = node
        for column, node, suffix in breadth_first:  # grows on the way
            closed[node] = bool(closes[column])
            earned[node] += earned[suffix]
            potential[node] = max(potential[node], potential[suffix], earned[node])
            table[node] = table[suffix]
            for following, child in children[node].items():
                breadth_first.append((following, child, int(table[suffix, following])))
                table[node, following] = child
        self.earned, self.potential = (torch.tensor(x, dtype=torch.float64) for x in (earned, potential))
        self.closed = torch.tensor(closed)
        return table

    def _gains(self, state: Tensor) -> Tensor:
        """States (N,) -> what one more token adds, by column (N,A)."""
        word_ends = self.opens | self.closed[state].unsqueeze(1)  # (N,A)
        earned = self.earned[state].unsqueeze(1) * word_ends
        return earned + self.potential[self.automaton.following(state)] - self.potential[state].unsqueeze(1)

    def start(self, memory: Memory, beam_size: int) -> Tensor:
        device = memory.states.device
        self.automaton = self.automaton.to(device)
        self.opens, self.closed = self.opens.to(device), self.closed.to(device)
        self.earned, self.potential = self.earned.to(device), self.potential.to(device)
        self.dtype = torch.promote_types(memory.states.dtype, torch.float32)
        return torch.full((memory.states.size(0) * beam_size,), BETWEEN, device=device)

    def score(self, tokens: Tensor, state: Tensor) -> Tensor:
        self.automaton.advance(tokens, state)
        return self._gains(state).to(self.dtype).index_select(1, self.automaton.columns)


def _ends_a_word(piece: str) -> bool:
    """Whether what comes before a piece is a whole word."""
    first = piece[:1]
    return first == SPACE or (unicodedata.category(first or "a") in PUNCTUATION and first not in WITHIN_WORDS)
